#include "server/sampling_conversion.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"

namespace monet::server {
namespace {

// Below this a division of logits by the temperature can overflow.
constexpr double kMinTemperature = 1e-6;
constexpr double kMaxTemperature = 100;

absl::Status ConvertFilters(const v1::SamplingParams& from, int32_t vocabulary,
                            SamplingParams* to) {
  if (from.has_top_k()) {
    if (from.top_k() < 0 || from.top_k() > vocabulary) {
      return InvalidField("sampling.top_k is {}, range 0 to {}", from.top_k(), vocabulary);
    }
    to->top_k = from.top_k();
  }
  if (from.has_top_p()) {
    const double p = from.top_p();
    if (!IsOrdinaryNumber(p) || p <= 0 || p > 1) {
      return InvalidField("sampling.top_p is {}, range above 0 to 1", p);
    }
    to->top_p = p;
  }
  if (from.has_min_p()) {
    const double p = from.min_p();
    if (!IsOrdinaryNumber(p) || p < 0 || p > 1) {
      return InvalidField("sampling.min_p is {}, range 0 to 1", p);
    }
    to->min_p = p;
  }
  return absl::OkStatus();
}

absl::Status ConvertPenalty(const char* field, double value, double* to) {
  if (!IsOrdinaryNumber(value) || std::abs(value) > kMaxPenalty) {
    return InvalidField("sampling.{} is {}, range {} to {}", field, value, -kMaxPenalty,
                        kMaxPenalty);
  }
  *to = value;
  return absl::OkStatus();
}

absl::Status ConvertPenalties(const v1::SamplingParams& from, SamplingParams* to) {
  if (from.has_presence_penalty()) {
    MONET_RETURN_IF_ERROR(
        ConvertPenalty("presence_penalty", from.presence_penalty(), &to->presence_penalty));
  }
  if (from.has_frequency_penalty()) {
    MONET_RETURN_IF_ERROR(
        ConvertPenalty("frequency_penalty", from.frequency_penalty(), &to->frequency_penalty));
  }
  if (from.has_repetition_penalty()) {
    const double penalty = from.repetition_penalty();
    if (!IsOrdinaryNumber(penalty) || penalty < kMinRepetitionPenalty || penalty > kMaxPenalty) {
      return InvalidField("sampling.repetition_penalty is {}, range {} to {}", penalty,
                          kMinRepetitionPenalty, kMaxPenalty);
    }
    to->repetition_penalty = penalty;
  }
  return absl::OkStatus();
}

absl::Status ConvertLogitBias(const v1::SamplingParams& from, int32_t vocabulary,
                              SamplingParams* to) {
  if (from.logit_bias().size() > limits::kMaxLogitBias) {
    return InvalidField("sampling.logit_bias has {} entries, limit {}", from.logit_bias().size(),
                        limits::kMaxLogitBias);
  }
  for (const auto& [id, bias] : from.logit_bias()) to->logit_bias.push_back({id, bias});
  // A map has no order: sorted, the first bad entry is the same in every run.
  std::sort(to->logit_bias.begin(), to->logit_bias.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.id < b.id; });
  for (const LogitBias& entry : to->logit_bias) {
    if (entry.id < 0 || entry.id >= vocabulary) {
      return InvalidField("sampling.logit_bias has the token id {}, range 0 to {}", entry.id,
                          vocabulary - 1);
    }
    if (!IsOrdinaryNumber(entry.bias) || std::abs(entry.bias) > kMaxLogitBiasValue) {
      return InvalidField("sampling.logit_bias[{}] is {}, range {} to {}", entry.id, entry.bias,
                          -kMaxLogitBiasValue, kMaxLogitBiasValue);
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsOrdinaryNumber(double value) {
  return std::isfinite(value) && std::fpclassify(value) != FP_SUBNORMAL;
}

absl::Status ConvertSamplingParams(const v1::SamplingParams& from, int32_t vocabulary,
                                   SamplingParams* to) {
  if (from.has_temperature()) {
    const double t = from.temperature();
    if (!IsOrdinaryNumber(t) || t > kMaxTemperature || (t != 0 && t < kMinTemperature)) {
      return InvalidField("sampling.temperature is {}, range 0, or {} to {}", t, kMinTemperature,
                          kMaxTemperature);
    }
    to->temperature = t;
  }
  MONET_RETURN_IF_ERROR(ConvertFilters(from, vocabulary, to));
  MONET_RETURN_IF_ERROR(ConvertPenalties(from, to));
  return ConvertLogitBias(from, vocabulary, to);
}

}  // namespace monet::server
