// Bounds of a model's working memory.
#pragma once

#include "runtime/base/status.h"
#include "runtime/model/config.h"
#include "runtime/model/step_model.h"

namespace monet {

// The limits to use: max_context 0 becomes the model's own. Errors: INVALID_ARGUMENT naming the
// limit that is out of range.
absl::StatusOr<StepLimits> CheckStepLimits(StepLimits limits, const ModelConfig& config);

}  // namespace monet
