// Logits of whole sequences at once, for `monetctl forward` and tests: no server, no scheduler.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "runtime/base/status.h"
#include "runtime/model/weights.h"
#include "runtime/policy/expert_mask.h"

namespace monet {

// `sequences` rows of `length` token ids each, all starting at position 0.
struct TokenBatch {
  std::span<const int32_t> ids;  // (sequences, length)
  int64_t sequences = 0;
  int64_t length = 0;
};

// Logits (sequences, length, V) under one mask for all rows and positions; null: no mask. Memory
// beside the result is bounded: the sequences run one by one, in chunks. The backend must hold the
// weights. Errors: INVALID_ARGUMENT (an id outside the vocabulary, length beyond the context, a
// mask of another shape), RESOURCE_EXHAUSTED.
absl::StatusOr<std::vector<float>> ForwardLogits(kernels::Backend* backend, const Weights& weights,
                                                 const TokenBatch& batch, const ExpertMask* mask);

}  // namespace monet
