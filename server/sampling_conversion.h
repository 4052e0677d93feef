// The part of request conversion that shapes the distribution: filters, penalties and biases.
// Pure; see request_conversion.h.
#pragma once

#include <cstdint>

#include "monet/v1/generation.pb.h"
#include "runtime/base/status.h"
#include "runtime/sample/sampler.h"

namespace monet::server {

// Neither NaN, infinite nor denormal.
bool IsOrdinaryNumber(double value);

// Everything in SamplingParams but the seed. Errors: INVALID_ARGUMENT with the field's path and
// range.
absl::Status ConvertSamplingParams(const v1::SamplingParams& from, int32_t vocabulary,
                                   SamplingParams* to);

}  // namespace monet::server
