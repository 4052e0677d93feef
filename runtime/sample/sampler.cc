#include "runtime/sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/sample/philox.h"

namespace monet {
namespace {

// The most probable token; the lowest id wins a tie.
int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// log Σ exp(logit - max), ids ascending.
double LogSumAbove(std::span<const float> logits, double max) {
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - max);
  return std::log(sum);
}

float LogProbOf(std::span<const float> logits, int32_t id, double max) {
  return static_cast<float>((logits[id] - max) - LogSumAbove(logits, max));
}

// The first entry at which the running sum of weights exceeds `target`. Entries of weight zero
// never are: the sum does not grow there. Rounding may leave target at the total; then the last
// entry with a weight is the one.
template <typename IdAt>
int32_t PickAt(double target, size_t count, const std::vector<double>& weights, IdAt id_at) {
  double sum = 0;
  int32_t last = id_at(0);
  for (size_t n = 0; n < count; ++n) {
    const int32_t id = id_at(n);
    if (weights[id] == 0) continue;
    sum += weights[id];
    last = id;
    if (sum > target) return id;
  }
  return last;
}

}  // namespace

absl::Status CheckSamplingParams(const SamplingParams& params, int32_t vocabulary) {
  // Written so that NaN fails.
  if (!(params.temperature >= 0 && params.temperature <= 100)) {
    return InvalidArgument("temperature is {}, must be from 0 to 100", params.temperature);
  }
  if (params.top_k < 0 || params.top_k > vocabulary) {
    return InvalidArgument("top_k is {}, must be from 0 to the vocabulary's {}", params.top_k,
                           vocabulary);
  }
  if (!(params.top_p > 0 && params.top_p <= 1)) {
    return InvalidArgument("top_p is {}, must be above 0 and at most 1", params.top_p);
  }
  return absl::OkStatus();
}

double UniformAt(uint64_t seed, uint32_t sample, uint64_t position) {
  // The last counter word is kept 0: room for a second stream, should one be needed.
  const auto words = Philox4x32(
      {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), sample, 0},
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (uint64_t{words[0]} << 32) | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

SampledToken Sampler::Sample(std::span<const float> logits, const SamplingParams& params,
                             uint64_t seed, uint32_t sample, uint64_t position) {
  const size_t vocabulary = logits.size();
  const int32_t best = ArgMax(logits);
  const double max = logits[best];
  if (params.temperature == 0 || params.top_k == 1) return {best, LogProbOf(logits, best, max)};

  weights_.resize(vocabulary);
  double total = 0;  // of all tokens, ids ascending
  for (size_t id = 0; id < vocabulary; ++id) {
    weights_[id] = std::exp((logits[id] - max) / params.temperature);
    total += weights_[id];
  }

  const double uniform = UniformAt(seed, sample, position);
  const bool top_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < vocabulary;
  if (!top_k && params.top_p >= 1) {
    const int32_t id = PickAt(uniform * total, vocabulary, weights_,
                              [](size_t n) { return static_cast<int32_t>(n); });
    return {id, LogProbOf(logits, id, max)};
  }

  // Most probable first, only as many as the filters keep: a heap costs V plus log V for each.
  candidates_.resize(vocabulary);
  std::iota(candidates_.begin(), candidates_.end(), 0);
  const auto less = [&](int32_t a, int32_t b) {
    return logits[a] < logits[b] || (logits[a] == logits[b] && a > b);
  };
  std::make_heap(candidates_.begin(), candidates_.end(), less);
  size_t kept = 0;  // candidates_[V-1-n] is the n-th most probable once n < kept
  const auto pop = [&] {
    std::pop_heap(candidates_.begin(), candidates_.end() - kept, less);
    ++kept;
    return weights_[candidates_[vocabulary - kept]];
  };
  double sum = 0;
  if (top_k) {
    for (int32_t n = 0; n < params.top_k; ++n) sum += pop();
    if (params.top_p < 1) {
      const double target = params.top_p * sum;
      sum = 0;
      kept = 0;
      while (kept < static_cast<size_t>(params.top_k) && sum < target) {
        sum += weights_[candidates_[vocabulary - ++kept]];
      }
    }
  } else {
    while (kept < vocabulary && sum < params.top_p * total) sum += pop();
  }
  const int32_t id = PickAt(uniform * sum, kept, weights_,
                            [&](size_t n) { return candidates_[vocabulary - 1 - n]; });
  return {id, LogProbOf(logits, id, max)};
}

SampledToken SampleToken(std::span<const float> logits, const SamplingParams& params, uint64_t seed,
                         uint32_t sample, uint64_t position) {
  return Sampler().Sample(logits, params, seed, sample, position);
}

float LogProb(std::span<const float> logits, int32_t id) {
  return LogProbOf(logits, id, logits[ArgMax(logits)]);
}

}  // namespace monet
