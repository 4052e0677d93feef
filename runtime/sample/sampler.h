// Next-token choice from logits. Random numbers are a function of (seed, sample index, position),
// never of call order, so the choice does not depend on what else runs.
//
// Order of operations, each on what the one before it left (l: a token's logit, in double):
//   1. logit_bias          l + bias
//   2. repetition_penalty  l > 0 ? l / penalty : l * penalty, tokens of prompt and output, once
//   3. frequency_penalty   l - penalty * times generated
//   4. presence_penalty    l - penalty, tokens generated at least once
//   5. forbidden tokens    out (min_tokens: whatever would stop the sequence)
//   6. temperature         l / temperature; 0 takes the most probable token and ends here
//   7. min_p               keeps tokens at least min_p times as probable as the most probable one
//   8. top_k               keeps the k most probable tokens
//   9. top_p               keeps the smallest set of most probable tokens whose probability among
//                          those that min_p and top_k left reaches top_p
//  10. the draw            inverts the cumulative sum at UniformAt(seed, sample, position)
// Ties go to the lower id first, everywhere. Sums are in double, in a fixed order. The order is
// vLLM's but for the place of forbidden tokens, which cannot matter there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/sample/token_history.h"

namespace monet {

struct LogitBias {
  int32_t id = 0;
  double bias = 0;  // [-100, 100]
};

// Defaults are the API's defaults.
struct SamplingParams {
  double temperature = 1.0;           // [0, 100]; 0 is greedy (lowest id wins a tie)
  int32_t top_k = 0;                  // 0: off; otherwise [1, V]
  double top_p = 1.0;                 // (0, 1]
  double min_p = 0.0;                 // [0, 1]; 0: off
  double presence_penalty = 0.0;      // [-2, 2]
  double frequency_penalty = 0.0;     // [-2, 2]
  double repetition_penalty = 1.0;    // [1e-6, 2]; 1: off
  std::vector<LogitBias> logit_bias;  // at most limits::kMaxLogitBias, ids distinct

  bool has_penalties() const {
    return presence_penalty != 0 || frequency_penalty != 0 || repetition_penalty != 1;
  }
};

// Below these a division of logits can overflow.
inline constexpr double kMinRepetitionPenalty = 1e-6;
inline constexpr double kMaxPenalty = 2;  // of all three, by magnitude
inline constexpr double kMaxLogitBiasValue = 100;

// Errors: INVALID_ARGUMENT naming the field and its range; NaN and infinities are refused.
absl::Status CheckSamplingParams(const SamplingParams& params, int32_t vocabulary);

struct SampledToken {
  int32_t id = 0;
  float logprob = 0;  // natural log of the model's own probability (temperature 1, nothing cut)
};

// What a sequence adds to its parameters at one position. Borrowed for the call.
struct SequenceContext {
  const TokenHistory* history = nullptr;  // null: no token counts as seen
  // Ids that may not come now; those outside the vocabulary are ignored. REQUIRES: at least one
  // id of the vocabulary is not among them.
  std::span<const int32_t> forbidden;
};

// A counter-based uniform number in [0, 1) (Philox 4x32-10; Salmon et al., SC 2011).
double UniformAt(uint64_t seed, uint32_t sample, uint64_t position);

// SampleToken with working memory that lives from call to call. Results do not depend on earlier
// calls. Not thread-safe.
class Sampler {
 public:
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params,
                      const SequenceContext& sequence, uint64_t seed, uint32_t sample,
                      uint64_t position);
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params, uint64_t seed,
                      uint32_t sample, uint64_t position) {
    return Sample(logits, params, SequenceContext(), seed, sample, position);
  }

  // The `count` most probable tokens (all, if there are fewer), most probable first, with the
  // model's own log-probabilities.
  std::vector<SampledToken> Top(std::span<const float> logits, int32_t count);

 private:
  // Steps 1 to 5, into adjusted_.
  void Adjust(std::span<const float> logits, const SamplingParams& params,
              const SequenceContext& sequence);
  // Steps 6 to 10.
  template <typename Logit>
  int32_t Choose(std::span<const Logit> logits, const SamplingParams& params, double uniform);
  // Steps 8 to 10 over weights_. REQUIRES: one of them is on.
  template <typename Logit>
  int32_t ChooseAmongTop(std::span<const Logit> logits, const SamplingParams& params, double total,
                         double uniform);

  std::vector<double> adjusted_;     // (V)
  std::vector<double> weights_;      // (V) exp((logit - max) / temperature); 0: cut
  std::vector<int32_t> candidates_;  // ids, a heap by (logit, lower id first)
};

// Logits must be finite. `position` is the index of the new token in its sequence.
SampledToken SampleToken(std::span<const float> logits, const SamplingParams& params, uint64_t seed,
                         uint32_t sample, uint64_t position);

// log softmax(logits)[id], in double, fixed order.
float LogProb(std::span<const float> logits, int32_t id);

}  // namespace monet
