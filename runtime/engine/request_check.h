// What a request must satisfy before the engine takes it.
#pragma once

#include <cstdint>

#include "runtime/base/status.h"
#include "runtime/engine/engine.h"

namespace monet {

// Errors: INVALID_ARGUMENT naming the field and its limit.
absl::Status CheckEngineRequest(const EngineRequest& request, int32_t vocabulary,
                                int32_t max_context);

}  // namespace monet
