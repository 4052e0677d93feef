#include "cli/labelled_documents.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "cli/text_input.h"
#include "runtime/base/bounded_file.h"
#include "runtime/policy/routing_sums.h"

namespace monet::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kMaxLabelBytes = 63;
constexpr char kScoredLabel[] = "scored";

bool IsLabel(std::string_view text) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  };
  return !text.empty() && text.size() <= kMaxLabelBytes && text[0] != '.' &&
         std::all_of(text.begin(), text.end(), is_plain);
}

absl::Status CheckLabel(const std::string& label) {
  if (IsLabel(label)) return absl::OkStatus();
  return InvalidArgument("the label must be 1 to {} letters, digits, '.', '-' and '_'",
                         kMaxLabelBytes);
}

class Collector {
 public:
  absl::Status Add(std::string label, std::string text, std::optional<double> score) {
    MONET_RETURN_IF_ERROR(CheckLabel(label));
    MONET_RETURN_IF_ERROR(RequireUtf8("the text", text));
    if (score && !(std::abs(*score) <= kMaxCollectedScore)) {
      return InvalidArgument("the score must be from {} to {}", -kMaxCollectedScore,
                             kMaxCollectedScore);
    }
    if (seen_ && score.has_value() != data_.scored) {
      return InvalidArgument("some documents have a score and some have none");
    }
    seen_ = true;
    data_.scored = score.has_value();
    if (text.empty()) {
      ++data_.empty;
      return absl::OkStatus();
    }
    bytes_ += text.size();
    if (data_.documents.size() == kMaxDocuments || bytes_ > kMaxDataBytes) {
      return InvalidArgument("more than {} documents or {} bytes", kMaxDocuments, kMaxDataBytes);
    }
    LabelledDocument document{std::move(label), std::move(text), score.value_or(0), {}};
    document.hash = Hasher().Update(std::string_view(document.text)).Finish();
    data_.documents.push_back(std::move(document));
    return absl::OkStatus();
  }

  absl::StatusOr<LabelledDocuments> Finish() {
    auto& documents = data_.documents;
    if (documents.empty()) return InvalidArgument("there are no documents");
    std::stable_sort(documents.begin(), documents.end(), [](const auto& a, const auto& b) {
      return std::tie(a.label, a.hash) < std::tie(b.label, b.hash);
    });
    std::vector<LabelledDocument> unique;
    for (LabelledDocument& document : documents) {
      if (data_.labels.empty() || data_.labels.back() != document.label) {
        data_.labels.push_back(document.label);
      }
      const bool repeats = !unique.empty() && unique.back().label == document.label &&
                           unique.back().hash == document.hash;
      if (!repeats) {
        unique.push_back(std::move(document));
        continue;
      }
      ++data_.repeated;
      if (unique.back().score != document.score) {
        return InvalidArgument("one text has the scores {} and {}", unique.back().score,
                               document.score);
      }
    }
    documents = std::move(unique);
    return std::move(data_);
  }

 private:
  LabelledDocuments data_;
  size_t bytes_ = 0;
  bool seen_ = false;
};

absl::Status AddLine(std::string_view line, Collector* collector) {
  std::set<std::string> keys;
  std::string repeated;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::key && depth == 1 &&
        !keys.insert(value.get<std::string>()).second) {
      repeated = value.get<std::string>();
    }
    return depth <= 2;
  };
  const Json json = Json::parse(line, check, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return InvalidArgument("is no JSON object");
  if (!repeated.empty()) return InvalidArgument("has the key '{}' twice", repeated);
  std::string label = kScoredLabel;
  std::optional<double> score;
  for (const auto& [key, value] : json.items()) {
    if (key == "label" && value.is_string()) {
      label = value.get<std::string>();
    } else if (key == "score" && value.is_number()) {
      score = value.get<double>();
    } else if (key != "text" || !value.is_string()) {
      return InvalidArgument("'{}' is no text, label or score", key);
    }
  }
  if (!json.contains("text")) return InvalidArgument("has no text");
  if (!json.contains("label") && !score) return InvalidArgument("has neither label nor score");
  return collector->Add(std::move(label), json["text"].get<std::string>(), score);
}

absl::Status AddLines(std::string_view lines, Collector* collector) {
  size_t number = 0;
  while (!lines.empty()) {
    ++number;
    const size_t end = std::min(lines.find('\n'), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const absl::Status status = AddLine(line, collector);
    if (!status.ok()) return InvalidArgument("line {}: {}", number, Message(status));
  }
  return absl::OkStatus();
}

// Visible entries in order.
absl::StatusOr<std::vector<fs::path>> List(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with('.')) continue;
    entries.push_back(it->path());
    if (entries.size() > kMaxDocuments) return InvalidArgument("too many entries");
  }
  if (error) return InvalidArgument("{}", error.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

absl::Status AddFolder(const fs::path& folder, Collector* collector) {
  MONET_ASSIGN_OR_RETURN(const std::vector<fs::path> files, List(folder));
  for (const fs::path& file : files) {
    auto text = ReadBoundedFile(file, kMaxInputBytes);
    absl::Status status = text.status();
    if (text.ok()) status = collector->Add(folder.filename(), *std::move(text), std::nullopt);
    if (!status.ok()) return InvalidArgument("{}: {}", file.string(), Message(status));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LabelledDocuments> ParseDocumentLines(std::string_view lines) {
  Collector collector;
  MONET_RETURN_IF_ERROR(AddLines(lines, &collector));
  return collector.Finish();
}

absl::StatusOr<LabelledDocuments> ReadLabelledDocuments(const fs::path& path) {
  Collector collector;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    auto lines = ReadBoundedFile(path, kMaxDataBytes);
    absl::Status status = lines.status();
    if (lines.ok()) status = AddLines(*lines, &collector);
    if (!status.ok()) return InvalidArgument("{}: {}", path.string(), Message(status));
  } else {
    MONET_ASSIGN_OR_RETURN(const std::vector<fs::path> folders, List(path));
    for (const fs::path& folder : folders) {
      if (!fs::is_directory(folder, error)) {
        return InvalidArgument("{}: not a label's folder", folder.string());
      }
      MONET_RETURN_IF_ERROR(AddFolder(folder, &collector));
    }
  }
  auto data = collector.Finish();
  if (!data.ok()) return InvalidArgument("{}: {}", path.string(), Message(data.status()));
  return data;
}

}  // namespace monet::cli
