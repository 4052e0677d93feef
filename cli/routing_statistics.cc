#include "cli/routing_statistics.h"

#include <nlohmann/json.hpp>
#include <span>

#include "runtime/limits.h"
#include "runtime/model/safetensors.h"

namespace monet::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "monet-routing-statistics-1";
constexpr uint64_t kMaxAboutBytes = 16 << 20;
constexpr uint64_t kMaxDocumentBytes = uint64_t{32} << 20;  // of their hashes

template <typename T>
std::span<const uint8_t> BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

template <typename T>
std::span<uint8_t> BytesOf(std::vector<T>* values) {
  return {reinterpret_cast<uint8_t*>(values->data()), values->size() * sizeof(T)};
}

Json TotalsJson(const LabelTotals& totals) {
  return {{"documents", totals.documents},
          {"tokens", totals.tokens},
          {"scores", totals.scores},
          {"score_squares", totals.score_squares}};
}

std::string About(const RoutingStatistics& statistics) {
  const RoutingSums& sums = statistics.sums;
  Json json = {{"format", kFormat},
               {"complete", statistics.complete},
               {"model", statistics.model},
               {"system", statistics.system},
               {"routers", sums.shape().routers},
               {"experts_per_side", sums.shape().experts},
               {"scored", sums.scored()},
               {"max_tokens", statistics.max_tokens},
               {"labels", Json::array()}};
  for (int32_t label = 0; label < sums.labels(); ++label) {
    json["labels"].push_back(
        {{"label", statistics.labels[static_cast<size_t>(label)]},
         {"halves", {TotalsJson(sums.totals(label, 0)), TotalsJson(sums.totals(label, 1))}}});
  }
  return json.dump();
}

// Takes values out of the JSON; remembers whether one was missing or of another kind.
class Fields {
 public:
  template <typename T>
  T Get(const Json& object, const char* key) {
    try {
      return object.at(key).get<T>();
    } catch (const Json::exception&) {
      ok_ = false;
      return T();
    }
  }
  bool ok() const { return ok_; }

 private:
  bool ok_ = true;
};

absl::StatusOr<RoutingStatistics> FromAbout(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  Fields fields;
  if (!json.is_object() || fields.Get<std::string>(json, "format") != kFormat) {
    return InvalidArgument("not the statistics of monetctl policy collect");
  }
  const MaskShape shape{fields.Get<int32_t>(json, "routers"),
                        fields.Get<int32_t>(json, "experts_per_side")};
  const auto labels = fields.Get<std::vector<Json>>(json, "labels");
  const bool scored = fields.Get<bool>(json, "scored");
  if (!fields.ok() || !shape.IsValid() || labels.empty()) return InvalidArgument("about: no sense");
  MONET_RETURN_IF_ERROR(CheckCollectedExperts(shape, labels.size()));
  RoutingStatistics statistics{.sums =
                                   RoutingSums(shape, static_cast<int32_t>(labels.size()), scored)};
  statistics.model = fields.Get<std::string>(json, "model");
  statistics.system = fields.Get<std::string>(json, "system");
  statistics.max_tokens = fields.Get<int64_t>(json, "max_tokens");
  statistics.complete = fields.Get<bool>(json, "complete");
  for (int32_t label = 0; label < statistics.sums.labels(); ++label) {
    const Json& entry = labels[static_cast<size_t>(label)];
    statistics.labels.push_back(fields.Get<std::string>(entry, "label"));
    const auto halves = fields.Get<std::vector<Json>>(entry, "halves");
    if (halves.size() != RoutingSums::kHalves) return InvalidArgument("about: no two halves");
    for (int32_t half = 0; half < RoutingSums::kHalves; ++half) {
      const Json& from = halves[static_cast<size_t>(half)];
      statistics.sums.totals(label, half) = {
          fields.Get<int64_t>(from, "documents"), fields.Get<int64_t>(from, "tokens"),
          fields.Get<int64_t>(from, "scores"), fields.Get<int64_t>(from, "score_squares")};
    }
  }
  if (!fields.ok()) return InvalidArgument("about: no sense");
  return statistics;
}

template <typename T>
absl::Status ReadTensor(const SafetensorsFile& file, const char* name, TensorDType dtype,
                        std::vector<T>* values) {
  const TensorInfo* info = file.Find(name);
  if (info == nullptr || info->dtype != dtype || info->bytes != values->size() * sizeof(T)) {
    return InvalidArgument("there is no tensor '{}' of the right type and length", name);
  }
  return file.Read(*info, 0, BytesOf(values));
}

absl::Status ReadSums(const SafetensorsFile& file, RoutingSums* sums) {
  MONET_RETURN_IF_ERROR(ReadTensor(file, "weights", TensorDType::kU64, &sums->weights));
  MONET_RETURN_IF_ERROR(ReadTensor(file, "means", TensorDType::kU64, &sums->means));
  MONET_RETURN_IF_ERROR(ReadTensor(file, "mean_squares", TensorDType::kU64, &sums->mean_squares));
  MONET_RETURN_IF_ERROR(ReadTensor(file, "active", TensorDType::kU32, &sums->active));
  if (!sums->scored()) return absl::OkStatus();
  MONET_RETURN_IF_ERROR(ReadTensor(file, "squares", TensorDType::kU64, &sums->squares));
  return ReadTensor(file, "products", TensorDType::kI64, &sums->products);
}

absl::Status ReadDocuments(const SafetensorsFile& file, RoutingStatistics* statistics) {
  const TensorInfo* info = file.Find("documents");
  if (info == nullptr || info->bytes > kMaxDocumentBytes || info->bytes % 32 != 0) {
    return InvalidArgument("there is no tensor 'documents' of hashes");
  }
  std::vector<Digest> hashes(info->bytes / 32);
  std::vector<int32_t> labels(hashes.size());
  MONET_RETURN_IF_ERROR(ReadTensor(file, "documents", TensorDType::kU8, &hashes));
  MONET_RETURN_IF_ERROR(ReadTensor(file, "document_labels", TensorDType::kI32, &labels));
  for (size_t n = 0; n < hashes.size(); ++n) {
    if (labels[n] < 0 || labels[n] >= statistics->sums.labels()) {
      return InvalidArgument("document {} is of label {}", n, labels[n]);
    }
    statistics->documents.emplace(labels[n], hashes[n]);
  }
  int64_t counted = 0;
  for (int32_t label = 0; label < statistics->sums.labels(); ++label) {
    counted += statistics->document_count(label);
  }
  if (counted != std::ssize(statistics->documents)) {
    return InvalidArgument("{} documents, but {} hashes", counted, statistics->documents.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<RoutingStatistics> ReadOpened(const SafetensorsFile& file) {
  const TensorInfo* info = file.Find("about");
  if (info == nullptr || info->dtype != TensorDType::kU8 || info->bytes > kMaxAboutBytes) {
    return InvalidArgument("not the statistics of monetctl policy collect");
  }
  std::string about(info->bytes, '\0');
  MONET_RETURN_IF_ERROR(
      file.Read(*info, 0, {reinterpret_cast<uint8_t*>(about.data()), about.size()}));
  MONET_ASSIGN_OR_RETURN(RoutingStatistics statistics, FromAbout(about));
  MONET_RETURN_IF_ERROR(ReadSums(file, &statistics.sums));
  MONET_RETURN_IF_ERROR(ReadDocuments(file, &statistics));
  return statistics;
}

}  // namespace

absl::Status CheckCollectedExperts(MaskShape shape, size_t labels) {
  const auto experts = static_cast<size_t>(shape.Experts());
  if (labels <= limits::kMaxCollectedExperts / experts) return absl::OkStatus();
  return InvalidArgument("{} labels of {} experts are {}, limit {}", labels, experts,
                         labels * experts, limits::kMaxCollectedExperts);
}

absl::Status WriteStatistics(const RoutingStatistics& statistics,
                             const std::filesystem::path& path) {
  const RoutingSums& sums = statistics.sums;
  const std::string about = About(statistics);
  const std::vector<int64_t> shape = {sums.labels(), RoutingSums::kHalves, sums.shape().routers,
                                      int64_t{sums.shape().experts} * sums.shape().experts};
  std::vector<Digest> hashes;
  std::vector<int32_t> labels;
  for (const auto& [label, hash] : statistics.documents) {
    labels.push_back(label);
    hashes.push_back(hash);
  }
  // The wide ones first: readers that map a file need each tensor aligned.
  std::vector<TensorToWrite> tensors = {
      {"weights", TensorDType::kU64, shape, BytesOf(sums.weights)},
      {"means", TensorDType::kU64, shape, BytesOf(sums.means)},
      {"mean_squares", TensorDType::kU64, shape, BytesOf(sums.mean_squares)}};
  if (sums.scored()) {
    tensors.push_back({"squares", TensorDType::kU64, shape, BytesOf(sums.squares)});
    tensors.push_back({"products", TensorDType::kI64, shape, BytesOf(sums.products)});
  }
  tensors.push_back({"active", TensorDType::kU32, shape, BytesOf(sums.active)});
  tensors.push_back({"document_labels", TensorDType::kI32, {std::ssize(labels)}, BytesOf(labels)});
  tensors.push_back({"documents", TensorDType::kU8, {std::ssize(hashes), 32}, BytesOf(hashes)});
  tensors.push_back({"about",
                     TensorDType::kU8,
                     {std::ssize(about)},
                     {reinterpret_cast<const uint8_t*>(about.data()), about.size()}});
  return WriteSafetensors(path, tensors, {{"format", kFormat}});
}

absl::StatusOr<RoutingStatistics> ReadStatistics(const std::filesystem::path& path) {
  auto file = SafetensorsFile::Open(path);
  if (!file.ok()) return file.status();
  auto statistics = ReadOpened(**file);
  if (statistics.ok()) return statistics;
  return InvalidArgument("{}: {}", path.string(), Message(statistics.status()));
}

}  // namespace monet::cli
