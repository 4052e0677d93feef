// The backends by the names that commands and tests use.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "kernels/backend.h"
#include "runtime/base/status.h"

namespace monet {

// `name`: "reference" (ignores `threads`) or "cpu". Errors: INVALID_ARGUMENT for another name or
// threads outside [1, 1024].
absl::StatusOr<std::unique_ptr<kernels::Backend>> MakeBackend(std::string_view name,
                                                              int32_t threads);

}  // namespace monet
