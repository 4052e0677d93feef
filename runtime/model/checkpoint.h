// A checkpoint directory, opened and checked: config.json, and model.safetensors or the shards
// that model.safetensors.index.json names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/model/config.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/tensors.h"

namespace monet {

// A required tensor and where it lies.
struct CheckpointTensor {
  TensorSpec spec;
  TensorInfo info;
  const SafetensorsFile* file = nullptr;
  size_t index = 0;  // in Checkpoint::tensors()
};

// Immutable; Read is thread-safe.
class Checkpoint {
 public:
  // After success every tensor of the table is there with its shape and an allowed dtype, and
  // nothing else is. Errors: INVALID_ARGUMENT (names the file and the tensor or field), NOT_FOUND
  // (missing file).
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::filesystem::path& directory);

  const ModelConfig& config() const { return config_; }
  // The required tensors, in the order of the table.
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  // REQUIRES: the config has this role (in this layer; -1 for model-wide roles).
  const CheckpointTensor& Get(TensorRole role, int32_t layer) const;
  // Reads out.size() bytes from `begin` bytes into the tensor.
  absl::Status Read(const CheckpointTensor& tensor, uint64_t begin, std::span<uint8_t> out) const;

 private:
  Checkpoint() = default;
  absl::Status OpenFiles(const std::filesystem::path& directory);
  absl::Status MatchTensors();

  ModelConfig config_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<CheckpointTensor> tensors_;
  std::map<std::pair<TensorRole, int32_t>, size_t> by_role_;
};

// The "weight_map" of model.safetensors.index.json: tensor name → shard file name. Errors:
// INVALID_ARGUMENT (a file name that is not a plain *.safetensors name, too many shards, ...).
absl::StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view json);

}  // namespace monet
