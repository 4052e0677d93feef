// Runs independent tasks on a few threads. Private to runtime/model: for loading, not for steps.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/base/status.h"

namespace monet {

// Calls every task once, at most `threads` at a time (at least one), and returns the error of the
// first task in the list that failed, so that the message does not depend on timing. After a
// failure tasks later in the list may be left out.
absl::Status RunTasks(const std::vector<std::function<absl::Status()>>& tasks, int32_t threads);

}  // namespace monet
