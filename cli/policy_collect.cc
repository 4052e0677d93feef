// monetctl policy collect: which experts serve labelled text.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "cli/document_routing.h"
#include "cli/exit_status.h"
#include "cli/json_shapes.h"
#include "cli/labelled_documents.h"
#include "cli/options.h"
#include "cli/policy_commands.h"
#include "cli/routing_statistics.h"
#include "cli/server_arguments.h"

namespace monet::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl policy collect --data texts --out stats.safetensors\n"
    "  monetctl policy collect --data texts.jsonl --max-tokens 40960 --out stats.safetensors\n"
    "  monetctl policy collect --data texts --out stats.safetensors --resume\n\n"
    "The data is a folder with a folder of text files for each label, or a file with a line of "
    "JSON\n"
    "for each document: {\"text\", \"label\"} or {\"text\", \"score\"}. A text that is there twice "
    "under one\n"
    "label counts once. Every text runs without a mask; what each token routes to each expert is\n"
    "added up by label and expert, in integers and for two halves of the documents. The file is\n"
    "written every --save-every documents and when the command is interrupted; with --resume it "
    "is\n"
    "gone on with, and in the end has the same bytes.";

struct CollectArguments {
  explicit CollectArguments(CLI::App* app) : server(app) {
    data = AddValue(app, "--data", "PATH", "Folder or file of labelled texts")->required();
    out = AddValue(app, "--out", "FILE", "Statistics to write (safetensors)")->required();
    max_tokens = AddValue(app, "--max-tokens", "N",
                          "Take no more documents of a label once they have so many tokens.\n"
                          "Which ones come first follows from their hashes. Default: all");
    save_every = AddValue(app, "--save-every", "N", "Documents from save to save. Default: 100");
    app->add_flag("--resume", resume, "Go on with what is in the file");
    app->add_flag("--json", json, "Print one JSON object");
  }

  ServerArguments server;
  CLI::Option *data, *out, *max_tokens, *save_every;
  bool resume = false;
  bool json = false;
};

struct Settings {
  std::string out;
  int64_t max_tokens = 0;
  int32_t save_every = 100;
};

absl::StatusOr<Settings> ReadSettings(const CollectArguments& arguments) {
  Settings settings;
  MONET_ASSIGN_OR_RETURN(const auto out, TextOf(arguments.out));
  MONET_ASSIGN_OR_RETURN(const auto max_tokens, Int32Of(arguments.max_tokens));
  MONET_ASSIGN_OR_RETURN(const auto save_every, Int32Of(arguments.save_every));
  settings.out = *out;
  settings.max_tokens = max_tokens.value_or(0);
  settings.save_every = save_every.value_or(settings.save_every);
  if (max_tokens && *max_tokens < 1) return InvalidArgument("--max-tokens must be at least 1");
  if (settings.save_every < 1) return InvalidArgument("--save-every must be at least 1");
  MONET_RETURN_IF_ERROR(CheckOutput(arguments.out));
  std::error_code error;
  const bool exists = fs::exists(settings.out, error);
  if (exists && !arguments.resume) {
    return InvalidArgument("--out {}: is there; --resume goes on with it", settings.out);
  }
  if (!exists && arguments.resume) {
    return InvalidArgument("--out {}: is not there to be gone on with", settings.out);
  }
  return settings;
}

RoutingStatistics Begin(const ServedModel& model, const LabelledDocuments& data,
                        const Settings& settings) {
  const auto labels = static_cast<int32_t>(data.labels.size());
  return {.model = model.fingerprint,
          .system = model.system,
          .labels = data.labels,
          .max_tokens = settings.max_tokens,
          .sums = RoutingSums(model.shape, labels, data.scored)};
}

// What was collected must be the beginning of what is to be collected now.
absl::Status CheckResumed(const RoutingStatistics& found, const RoutingStatistics& wanted,
                          const LabelledDocuments& data) {
  if (found.model != wanted.model || found.sums.shape() != wanted.sums.shape()) {
    return InvalidArgument("it is of the model {}, the server has {}", found.model, wanted.model);
  }
  if (found.system != wanted.system) {
    return InvalidArgument("it comes from the build {}, the server is {}", found.system,
                           wanted.system);
  }
  if (found.labels != wanted.labels || found.sums.scored() != wanted.sums.scored()) {
    return InvalidArgument("it has other labels than the data");
  }
  if (found.max_tokens != wanted.max_tokens) {
    return InvalidArgument("it was collected with --max-tokens {}", found.max_tokens);
  }
  size_t known = 0;
  for (const LabelledDocument& document : data.documents) {
    const auto label = std::lower_bound(data.labels.begin(), data.labels.end(), document.label);
    known +=
        found.documents.count({static_cast<int32_t>(label - data.labels.begin()), document.hash});
  }
  if (known == found.documents.size()) return absl::OkStatus();
  return InvalidArgument("it has {} documents that the data has not",
                         found.documents.size() - known);
}

class Collection {
 public:
  Collection(const ServedModel& model, const LabelledDocuments& data, const Settings& settings,
             RoutingStatistics statistics, Connection* connection, Console* console)
      : model_(model),
        data_(data),
        settings_(settings),
        statistics_(std::move(statistics)),
        routing_(model.shape),
        connection_(connection),
        console_(console) {}

  // Writes the file, whatever comes.
  absl::Status Run() {
    absl::Status status = AddAll();
    console_->ClearProgress();
    statistics_.complete = status.ok();
    const absl::Status saved = WriteStatistics(statistics_, settings_.out);
    return status.ok() ? saved : status;
  }
  const RoutingStatistics& statistics() const { return statistics_; }

 private:
  absl::Status AddAll() {
    int32_t label = 0;
    int64_t unsaved = 0;
    for (size_t n = 0; n < data_.documents.size(); ++n) {
      const LabelledDocument& document = data_.documents[n];
      while (data_.labels[static_cast<size_t>(label)] != document.label) ++label;
      if (statistics_.documents.contains({label, document.hash})) continue;
      const int64_t tokens = statistics_.tokens(label);
      if (settings_.max_tokens > 0 && tokens >= settings_.max_tokens) continue;
      console_->Progress(fmt::format("document {} of {}: {}, {} tokens", n + 1,
                                     data_.documents.size(), document.label, tokens));
      MONET_RETURN_IF_ERROR(AddOne(label, document));
      if (++unsaved % settings_.save_every != 0) continue;
      MONET_RETURN_IF_ERROR(WriteStatistics(statistics_, settings_.out));
    }
    return absl::OkStatus();
  }

  absl::Status AddOne(int32_t label, const LabelledDocument& document) {
    if (model_.max_prompt_bytes > 0 && std::ssize(document.text) > model_.max_prompt_bytes) {
      return InvalidArgument("a text of the label {} has {} bytes, the server's limit is {}",
                             document.label, document.text.size(), model_.max_prompt_bytes);
    }
    routing_.Clear();
    MONET_RETURN_IF_ERROR(AddDocument(model_, document.text, connection_, &routing_));
    MONET_RETURN_IF_ERROR(statistics_.sums.Add(label, document.half(), routing_, document.score));
    statistics_.documents.emplace(label, document.hash);
    return absl::OkStatus();
  }

  const ServedModel& model_;
  const LabelledDocuments& data_;
  const Settings& settings_;
  RoutingStatistics statistics_;
  DocumentRouting routing_;
  Connection* const connection_;
  Console* const console_;
};

std::string Summary(const RoutingStatistics& statistics, const LabelledDocuments& data, bool json) {
  if (json) {
    Json object = {{"model", statistics.model},
                   {"scored", statistics.sums.scored()},
                   {"repeated", data.repeated},
                   {"empty", data.empty}};
    object["labels"] = Json::array();
    for (int32_t label = 0; label < statistics.sums.labels(); ++label) {
      object["labels"].push_back({{"label", statistics.labels[static_cast<size_t>(label)]},
                                  {"documents", statistics.document_count(label)},
                                  {"tokens", statistics.tokens(label)}});
    }
    return Line(object);
  }
  std::string text = fmt::format("{:<24}{:>10}{:>12}\n", "LABEL", "DOCUMENTS", "TOKENS");
  for (int32_t label = 0; label < statistics.sums.labels(); ++label) {
    text += fmt::format("{:<24}{:>10}{:>12}\n", statistics.labels[static_cast<size_t>(label)],
                        statistics.document_count(label), statistics.tokens(label));
  }
  if (data.repeated > 0) text += fmt::format("left out {} repeated texts\n", data.repeated);
  if (data.empty > 0) text += fmt::format("left out {} empty texts\n", data.empty);
  return text;
}

absl::Status RunCollect(const CollectArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const Settings settings, ReadSettings(arguments));
  MONET_ASSIGN_OR_RETURN(const auto path, TextOf(arguments.data));
  MONET_ASSIGN_OR_RETURN(const LabelledDocuments data, ReadLabelledDocuments(*path));
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  MONET_ASSIGN_OR_RETURN(const ServedModel model, AskServedModel(connection.get()));
  MONET_RETURN_IF_ERROR(CheckCollectedExperts(model.shape, data.labels.size()));
  RoutingStatistics statistics = Begin(model, data, settings);
  if (arguments.resume) {
    MONET_ASSIGN_OR_RETURN(RoutingStatistics found, ReadStatistics(settings.out));
    const absl::Status status = CheckResumed(found, statistics, data);
    if (!status.ok()) return InvalidArgument("{}: {}", settings.out, Message(status));
    statistics = std::move(found);
  }
  Collection collection(model, data, settings, std::move(statistics), connection.get(),
                        session.console);
  MONET_RETURN_IF_ERROR(collection.Run());
  return session.console->Write(Summary(collection.statistics(), data, arguments.json));
}

}  // namespace

Command AddPolicyCollect(CLI::App* policy) {
  CLI::App* app = policy->add_subcommand("collect", "Add up what labelled text routes to experts");
  app->footer(kExample);
  auto arguments = std::make_shared<CollectArguments>(app);
  return {app, [arguments](const Session& session) { return RunCollect(*arguments, session); }};
}

}  // namespace monet::cli
