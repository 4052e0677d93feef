#include "runtime/sample/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "runtime/limits.h"
#include "runtime/sample/philox.h"

namespace monet {
namespace {

// The most probable token; the lowest id wins a tie.
template <typename Logit>
int32_t ArgMax(std::span<const Logit> logits) {
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

absl::Status CheckPenalties(const SamplingParams& params) {
  // Written so that NaN fails.
  if (!(std::abs(params.presence_penalty) <= kMaxPenalty)) {
    return InvalidArgument("presence_penalty is {}, must be from {} to {}", params.presence_penalty,
                           -kMaxPenalty, kMaxPenalty);
  }
  if (!(std::abs(params.frequency_penalty) <= kMaxPenalty)) {
    return InvalidArgument("frequency_penalty is {}, must be from {} to {}",
                           params.frequency_penalty, -kMaxPenalty, kMaxPenalty);
  }
  if (!(params.repetition_penalty >= kMinRepetitionPenalty &&
        params.repetition_penalty <= kMaxPenalty)) {
    return InvalidArgument("repetition_penalty is {}, must be from {} to {}",
                           params.repetition_penalty, kMinRepetitionPenalty, kMaxPenalty);
  }
  return absl::OkStatus();
}

absl::Status CheckLogitBias(const std::vector<LogitBias>& biases, int32_t vocabulary) {
  if (biases.size() > limits::kMaxLogitBias) {
    return InvalidArgument("logit_bias has {} entries, limit {}", biases.size(),
                           limits::kMaxLogitBias);
  }
  for (const LogitBias& entry : biases) {
    if (entry.id < 0 || entry.id >= vocabulary) {
      return InvalidArgument("logit_bias has token {}, must be from 0 to {}", entry.id,
                             vocabulary - 1);
    }
    if (!(std::abs(entry.bias) <= kMaxLogitBiasValue)) {
      return InvalidArgument("logit_bias of token {} is {}, must be from {} to {}", entry.id,
                             entry.bias, -kMaxLogitBiasValue, kMaxLogitBiasValue);
    }
  }
  return absl::OkStatus();
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
  if (!(params.min_p >= 0 && params.min_p <= 1)) {
    return InvalidArgument("min_p is {}, must be from 0 to 1", params.min_p);
  }
  MONET_RETURN_IF_ERROR(CheckPenalties(params));
  return CheckLogitBias(params.logit_bias, vocabulary);
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
                             const SequenceContext& sequence, uint64_t seed, uint32_t sample,
                             uint64_t position) {
  const double uniform = UniformAt(seed, sample, position);
  const bool penalised = sequence.history != nullptr && params.has_penalties();
  int32_t id = 0;
  if (penalised || !params.logit_bias.empty() || !sequence.forbidden.empty()) {
    Adjust(logits, params, sequence);
    id = Choose(std::span<const double>(adjusted_), params, uniform);
  } else {
    id = Choose(logits, params, uniform);
  }
  return {id, LogProb(logits, id)};
}

void Sampler::Adjust(std::span<const float> logits, const SamplingParams& params,
                     const SequenceContext& sequence) {
  adjusted_.assign(logits.begin(), logits.end());
  for (const LogitBias& entry : params.logit_bias) adjusted_[entry.id] += entry.bias;
  if (sequence.history != nullptr && params.has_penalties()) {
    // The map's order does not matter: each token is adjusted by itself.
    for (const auto& [id, times] : sequence.history->times_generated()) {
      double& logit = adjusted_[id];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      logit -= params.frequency_penalty * times;
      if (times > 0) logit -= params.presence_penalty;
    }
  }
  for (int32_t id : sequence.forbidden) {
    if (id < 0 || static_cast<size_t>(id) >= adjusted_.size()) continue;
    adjusted_[id] = -std::numeric_limits<double>::infinity();
  }
}

template <typename Logit>
int32_t Sampler::Choose(std::span<const Logit> logits, const SamplingParams& params,
                        double uniform) {
  const size_t vocabulary = logits.size();
  const int32_t best = ArgMax(logits);
  const double max = logits[best];
  if (params.temperature == 0 || params.top_k == 1) return best;

  weights_.resize(vocabulary);
  double total = 0;  // of what min_p keeps, ids ascending
  for (size_t id = 0; id < vocabulary; ++id) {
    double weight = std::exp((logits[id] - max) / params.temperature);
    if (weight < params.min_p) weight = 0;  // the most probable token has weight 1
    weights_[id] = weight;
    total += weight;
  }
  const bool top_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < vocabulary;
  if (top_k || params.top_p < 1) return ChooseAmongTop(logits, params, total, uniform);
  return PickAt(uniform * total, vocabulary, weights_,
                [](size_t n) { return static_cast<int32_t>(n); });
}

template <typename Logit>
int32_t Sampler::ChooseAmongTop(std::span<const Logit> logits, const SamplingParams& params,
                                double total, double uniform) {
  // Most probable first, only as many as the filters keep: a heap costs V plus log V for each.
  const size_t vocabulary = logits.size();
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
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < vocabulary) {
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
  return PickAt(uniform * sum, kept, weights_,
                [&](size_t n) { return candidates_[vocabulary - 1 - n]; });
}

std::vector<SampledToken> Sampler::Top(std::span<const float> logits, int32_t count) {
  candidates_.resize(logits.size());
  std::iota(candidates_.begin(), candidates_.end(), 0);
  const auto end = candidates_.begin() + std::min<ptrdiff_t>(count, std::ssize(candidates_));
  std::partial_sort(candidates_.begin(), end, candidates_.end(), [&](int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  });
  const double max = logits[ArgMax(logits)];
  const double log_sum = LogSumAbove(logits, max);
  std::vector<SampledToken> top;
  for (auto id = candidates_.begin(); id != end; ++id) {
    top.push_back({*id, static_cast<float>((logits[*id] - max) - log_sum)});
  }
  return top;
}

SampledToken SampleToken(std::span<const float> logits, const SamplingParams& params, uint64_t seed,
                         uint32_t sample, uint64_t position) {
  return Sampler().Sample(logits, params, seed, sample, position);
}

float LogProb(std::span<const float> logits, int32_t id) {
  return LogProbOf(logits, id, logits[ArgMax(logits)]);
}

}  // namespace monet
