#include "runtime/model/checkpoint.h"

#include <fstream>
#include <optional>
#include <set>
#include <system_error>

#include "runtime/base/check.h"
#include "runtime/limits.h"
#include "runtime/model/json.h"

namespace monet {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr JsonLimits kIndexLimits{.max_depth = 8, .max_values = 2'000'000};

absl::StatusOr<std::string> ReadSmallFile(const std::filesystem::path& path, size_t limit) {
  const std::string name = path.filename().string();
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return Error(absl::StatusCode::kNotFound, "{} is missing", name);
  }
  if (!std::filesystem::is_regular_file(status)) {
    return InvalidArgument("{}: not a regular file", name);
  }
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error || bytes > limit) {
    return InvalidArgument("{} has {} bytes, limit {}", name, bytes, limit);
  }
  std::string text(bytes, '\0');
  std::ifstream in(path, std::ios::binary);
  if (!in.read(text.data(), static_cast<std::streamsize>(bytes))) {
    return InvalidArgument("{} cannot be read", name);
  }
  return text;
}

bool IsPlainShardName(std::string_view name) {
  constexpr size_t kMaxNameBytes = 255;
  constexpr std::string_view kForbidden("/\\\0", 3);
  return name.size() <= kMaxNameBytes && name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

// Every tensor lies in the shard that the index maps it to, and nowhere else.
absl::Status CheckIndex(const std::map<std::string, std::string>& weight_map,
                        const std::vector<std::unique_ptr<SafetensorsFile>>& files) {
  std::set<std::string_view> found;
  for (const auto& file : files) {
    for (const TensorInfo& info : file->tensors()) {
      const auto it = weight_map.find(info.name);
      if (it == weight_map.end()) {
        return InvalidArgument("{}: tensor {} is not listed in {}", file->name(),
                               Printable(info.name), kIndexFile);
      }
      if (it->second != file->name()) {
        return InvalidArgument("{}: tensor {} belongs to {} by {}", file->name(),
                               Printable(info.name), it->second, kIndexFile);
      }
      found.insert(it->first);
    }
  }
  for (const auto& [tensor, shard] : weight_map) {
    if (!found.contains(tensor)) {
      return InvalidArgument("{}: tensor {} is missing, {} lists it", shard, Printable(tensor),
                             kIndexFile);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view json) {
  if (json.size() > limits::kMaxIndexBytes) {
    return InvalidArgument("{} has {} bytes, limit {}", kIndexFile, json.size(),
                           limits::kMaxIndexBytes);
  }
  MONET_ASSIGN_OR_RETURN(const nlohmann::json root,
                         ParseJsonObject(json, kIndexFile, kIndexLimits));
  const auto it = root.find("weight_map");
  if (it == root.end() || !it->is_object() || it->empty()) {
    return InvalidArgument("{}: weight_map is missing, empty or not an object", kIndexFile);
  }
  std::map<std::string, std::string> weight_map;
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : it->items()) {
    if (!shard.is_string() || !IsPlainShardName(shard.get_ref<const std::string&>())) {
      return InvalidArgument("{}: tensor {} is mapped to something that is not a plain file name",
                             kIndexFile, Printable(tensor));
    }
    shards.insert(shard.get<std::string>());
    if (shards.size() > limits::kMaxShards) {
      return InvalidArgument("{}: more than {} shards", kIndexFile, limits::kMaxShards);
    }
    weight_map.emplace(tensor, shard.get<std::string>());
  }
  return weight_map;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(
    const std::filesystem::path& directory) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint);
  MONET_ASSIGN_OR_RETURN(const std::string config,
                         ReadSmallFile(directory / kConfigFile, limits::kMaxConfigBytes));
  MONET_ASSIGN_OR_RETURN(checkpoint->config_, ParseModelConfig(config));
  MONET_RETURN_IF_ERROR(checkpoint->OpenFiles(directory));
  MONET_RETURN_IF_ERROR(checkpoint->MatchTensors());
  return checkpoint;
}

absl::Status Checkpoint::OpenFiles(const std::filesystem::path& directory) {
  std::error_code error;
  const bool sharded = std::filesystem::exists(directory / kIndexFile, error);
  const bool single = std::filesystem::exists(directory / kSingleFile, error);
  if (sharded && single) {
    return InvalidArgument("{} and {} are both there, allowed: one of them", kSingleFile,
                           kIndexFile);
  }
  if (!sharded) {
    MONET_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(directory / kSingleFile));
    files_.push_back(std::move(file));
    return absl::OkStatus();
  }
  MONET_ASSIGN_OR_RETURN(const std::string json,
                         ReadSmallFile(directory / kIndexFile, limits::kMaxIndexBytes));
  MONET_ASSIGN_OR_RETURN(const auto weight_map, ParseShardIndex(json));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
  for (const std::string& shard : shards) {
    MONET_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(directory / shard));
    files_.push_back(std::move(file));
  }
  return CheckIndex(weight_map, files_);
}

absl::Status Checkpoint::MatchTensors() {
  const std::vector<TensorSpec> table = TensorTable(config_);
  std::vector<TensorInfo> present;
  std::map<std::string_view, const SafetensorsFile*> file_of;
  for (const auto& file : files_) {
    for (const TensorInfo& info : file->tensors()) {
      present.push_back(info);
      file_of.emplace(info.name, file.get());
    }
  }
  const absl::Status checked = CheckTensors(table, present);
  if (!checked.ok()) {
    return InvalidArgument("{}: {}", files_.size() == 1 ? kSingleFile : kIndexFile,
                           Message(checked));
  }
  std::map<std::string_view, const TensorInfo*> info_of;
  for (const TensorInfo& info : present) info_of.emplace(info.name, &info);
  for (const TensorSpec& spec : table) {
    if (spec.presence == Presence::kIgnored) continue;
    by_role_[{spec.role, spec.layer}] = tensors_.size();
    tensors_.push_back({.spec = spec,
                        .info = *info_of.at(spec.name),
                        .file = file_of.at(spec.name),
                        .index = tensors_.size()});
  }
  return absl::OkStatus();
}

const CheckpointTensor& Checkpoint::Get(TensorRole role, int32_t layer) const {
  const auto it = by_role_.find({role, layer});
  MONET_CHECK(it != by_role_.end());
  return tensors_[it->second];
}

absl::Status Checkpoint::Read(const CheckpointTensor& tensor, uint64_t begin,
                              std::span<uint8_t> out) const {
  return tensor.file->Read(tensor.info, begin, out);
}

}  // namespace monet
