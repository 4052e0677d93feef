#include "runtime/model/fingerprint.h"

#include <algorithm>
#include <functional>
#include <string_view>

#include "runtime/model/parallel_tasks.h"

namespace monet {
namespace {

constexpr std::string_view kTag("monet-model-1\0", 14);
constexpr uint64_t kChunkBytes = 4 << 20;

void UpdateString(Hasher* hasher, std::string_view text) {
  hasher->UpdateU32(static_cast<uint32_t>(text.size())).Update(text);
}

absl::StatusOr<Digest> HashTensor(const Checkpoint& checkpoint, const CheckpointTensor& tensor) {
  std::vector<uint8_t> chunk(std::min(kChunkBytes, tensor.info.bytes));
  Hasher hasher;
  for (uint64_t begin = 0; begin < tensor.info.bytes; begin += chunk.size()) {
    const auto part =
        std::span(chunk).first(std::min<uint64_t>(chunk.size(), tensor.info.bytes - begin));
    MONET_RETURN_IF_ERROR(checkpoint.Read(tensor, begin, part));
    hasher.Update(part);
  }
  return hasher.Finish();
}

}  // namespace

Digest ModelFingerprint(const ModelConfig& config, std::vector<TensorDigest> tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorDigest& a, const TensorDigest& b) { return a.name < b.name; });
  Hasher hasher;
  hasher.Update(kTag).UpdateU32(static_cast<uint32_t>(tensors.size()));
  for (const TensorDigest& tensor : tensors) {
    UpdateString(&hasher, tensor.name);
    UpdateString(&hasher, tensor.dtype);
    hasher.UpdateU32(static_cast<uint32_t>(tensor.shape.size()));
    for (int64_t dimension : tensor.shape) hasher.UpdateU32(static_cast<uint32_t>(dimension));
    hasher.Update(tensor.bytes.bytes);
  }
  UpdateString(&hasher, CanonicalConfig(config));
  return hasher.Finish();
}

TensorDigest DescribeTensor(const CheckpointTensor& tensor, const Digest& bytes) {
  return {.name = tensor.spec.name,
          .dtype = std::string(DTypeName(tensor.info.dtype)),
          .shape = tensor.info.shape,
          .bytes = bytes};
}

absl::StatusOr<Digest> FingerprintCheckpoint(const Checkpoint& checkpoint, int32_t threads) {
  std::vector<TensorDigest> digests(checkpoint.tensors().size());
  std::vector<std::function<absl::Status()>> tasks;
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    tasks.push_back([&checkpoint, &tensor, &digests]() -> absl::Status {
      MONET_ASSIGN_OR_RETURN(const Digest bytes, HashTensor(checkpoint, tensor));
      digests[tensor.index] = DescribeTensor(tensor, bytes);
      return absl::OkStatus();
    });
  }
  MONET_RETURN_IF_ERROR(RunTasks(tasks, threads));
  return ModelFingerprint(checkpoint.config(), std::move(digests));
}

}  // namespace monet
