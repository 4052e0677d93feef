// Next-token choice from logits. Random numbers are a function of (seed, sample index, position),
// never of call order, so the choice does not depend on what else runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/status.h"

namespace monet {

// Defaults are the API's defaults.
struct SamplingParams {
  double temperature = 1.0;  // [0, 100]; 0 is greedy (lowest id wins a tie)
  int32_t top_k = 0;         // 0: off; otherwise [1, V]
  double top_p = 1.0;        // (0, 1]
};

// Errors: INVALID_ARGUMENT naming the field and its range; NaN and infinities are refused.
absl::Status CheckSamplingParams(const SamplingParams& params, int32_t vocabulary);

struct SampledToken {
  int32_t id = 0;
  float logprob = 0;  // natural log of the model's own probability (temperature 1, nothing cut)
};

// A counter-based uniform number in [0, 1) (Philox 4x32-10; Salmon et al., SC 2011).
double UniformAt(uint64_t seed, uint32_t sample, uint64_t position);

// SampleToken with working memory that lives from call to call. Results do not depend on earlier
// calls. Not thread-safe.
class Sampler {
 public:
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params, uint64_t seed,
                      uint32_t sample, uint64_t position);

 private:
  std::vector<double> weights_;      // (V) exp((logit - max) / temperature)
  std::vector<int32_t> candidates_;  // ids, a heap by (logit, lower id first)
};

// Filters in the order temperature, top_k, top_p (the smallest set of most probable tokens whose
// probability among those that top_k left reaches top_p; ties by lower id first). Sums are in
// double, in a fixed order. Logits must be finite. `position` is the index of the new token in its
// sequence.
SampledToken SampleToken(std::span<const float> logits, const SamplingParams& params, uint64_t seed,
                         uint32_t sample, uint64_t position);

// log softmax(logits)[id], in double, fixed order.
float LogProb(std::span<const float> logits, int32_t id);

}  // namespace monet
