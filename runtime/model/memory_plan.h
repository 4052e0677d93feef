// How much memory serving a model takes, before anything of it is allocated. The one arithmetic
// behind the server's start and `monetctl plan`: tests hold it to what is really allocated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/model/checkpoint.h"
#include "runtime/model/config.h"
#include "runtime/model/step_model.h"
#include "runtime/model/tensors.h"

namespace monet {

// A tensor as it lies in a checkpoint; its values are not needed.
struct StoredTensor {
  TensorRole role = TensorRole::kIgnored;
  int32_t layer = -1;
  std::vector<int64_t> shape;
  TensorDType dtype = TensorDType::kF32;  // kF32 or kBF16
};

// A model by its configuration and the types of its tensors.
struct StoredModel {
  ModelConfig config;
  std::vector<StoredTensor> tensors;

  static StoredModel Of(const Checkpoint& checkpoint);
  // Every tensor stored as `dtype`: for a model of which only config.json is at hand.
  static StoredModel Assume(const ModelConfig& config, TensorDType dtype);
};

// What a server is started with.
struct MemoryRequest {
  // kv_blocks is not read; max_context 0: the model's own.
  StepLimits limits;
  int32_t threads = 1;
  int32_t max_queue = 0;
  int64_t kv_tokens = 0;  // 0: chosen from what is left, at most 32 contexts
  int64_t memory = 0;     // bytes that the process may have
  // Others use the memory too: a cache whose size is chosen takes a quarter of what is left, or one
  // context, instead of all of it.
  bool shared = false;
};

// Bytes of each part, rounded to pages as the CPU backend does. Invariant: Peak() <= memory.
struct MemoryPlan {
  int64_t memory = 0;       // what the process may have
  int64_t weights = 0;      // in their layouts, with the tables of rotary embedding
  int64_t kv_cache = 0;     // keys and values of all blocks
  int64_t activations = 0;  // of one step, with what computing threads need and the logits
  int64_t masks = 0;        // bitmaps of mask slots and shadow slots
  int64_t requests = 0;     // messages, outboxes and masks of requests, running and waiting
  int64_t reserve = 0;      // the process itself: code, gRPC, tokenizer, about 100 policies
  int64_t loading = 0;      // while weights are read: copies that go away; no cache exists yet

  int64_t token_bytes = 0;  // keys and values of one token in all layers, fp32
  int32_t kv_blocks = 0;
  int32_t block_size = 0;   // tokens
  int32_t max_context = 0;  // tokens
  int32_t mask_slots = 0;
  int32_t shadow_slots = 0;
  int64_t minimum = 0;  // Peak() with a cache of one context

  int64_t KvTokens() const { return int64_t{kv_blocks} * block_size; }
  double Contexts() const { return static_cast<double>(KvTokens()) / max_context; }
  // Once it serves.
  int64_t Total() const { return weights + kv_cache + activations + masks + requests + reserve; }
  // At any time.
  int64_t Peak() const;
};

// Keys and values of one token in all layers. `element_bytes`: 4 in this version (fp32); 2 would be
// bf16.
int64_t KvBytesPerToken(const ModelConfig& config, int64_t element_bytes);

// Errors: INVALID_ARGUMENT (a limit out of range, kv_tokens below the model's context),
// RESOURCE_EXHAUSTED naming the bytes needed and the bytes available.
absl::StatusOr<MemoryPlan> PlanMemory(const StoredModel& model, const MemoryRequest& request);

// "1.5 GiB", "12.0 MiB"; rounded up, so that no part looks smaller than it is.
std::string FormatBytes(int64_t bytes);

// The parts, their sum and what may be had, a line each, ended by a newline; `indent` goes before
// each line.
std::string MemoryTable(const MemoryPlan& plan, const std::string& indent);

}  // namespace monet
