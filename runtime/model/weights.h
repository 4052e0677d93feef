// The weights of a checkpoint in a backend's memory, in the layouts of kernels/backend.h.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "runtime/model/config.h"

namespace monet {

class Checkpoint;

struct RouterWeights {
  kernels::Matrix w1, w2;             // (H·E, D)
  const float* threshold1 = nullptr;  // (H)
  const float* threshold2 = nullptr;  // (H)
};

struct LayerWeights {
  const float* input_norm = nullptr;           // (D)
  kernels::Matrix q, k, v, o;                  // (A·C, D), (G·C, D), (G·C, D), (D, A·C)
  const float* post_attention_norm = nullptr;  // (D)
  kernels::ExpertWeights experts;
};

// Owns the memory. Immutable after loading.
class Weights {
 public:
  virtual ~Weights() = default;

  const ModelConfig& config() const { return config_; }
  // SHA-256 over what the model computes, independent of sharding; see docs/architecture.md.
  const Digest& fingerprint() const { return fingerprint_; }
  size_t bytes() const { return bytes_; }

  kernels::Matrix embedding;           // (V, D)
  const float* final_norm = nullptr;   // (D)
  kernels::Matrix head;                // (V, D); the embedding when tied
  std::vector<LayerWeights> layers;    // (L)
  std::vector<RouterWeights> routers;  // (R)
  const float* rope_cos = nullptr;     // (max_context, C/2)
  const float* rope_sin = nullptr;     // (max_context, C/2)

 protected:
  ModelConfig config_;
  Digest fingerprint_;
  size_t bytes_ = 0;
};

// Reads and checks a checkpoint directory (config.json, model.safetensors or shards with
// model.safetensors.index.json), hashes it with `threads` threads, and lays it out for `backend`,
// which must outlive the result. Errors: INVALID_ARGUMENT (bad content; names the file within the
// directory and the tensor), NOT_FOUND (missing file), RESOURCE_EXHAUSTED.
absl::StatusOr<std::unique_ptr<Weights>> LoadWeights(const std::filesystem::path& directory,
                                                     kernels::Backend* backend, int32_t threads);
// The same of a directory that is open already; the result does not refer to `checkpoint`.
absl::StatusOr<std::unique_ptr<Weights>> LoadWeights(const Checkpoint& checkpoint,
                                                     kernels::Backend* backend, int32_t threads);

}  // namespace monet
