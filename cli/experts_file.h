// The JSON files of --experts: experts to remove, by router group.
//
//   {"routers": [{"router": 0, "ids": [17, 4242], "rows": [3], "columns": [7]}]}
//
// ids are i·E + j, a row is every expert (i, ·), a column every (·, j); each list may be left out.
// Also read: the list alone, one entry alone, and an object keyed by router, {"0": {"ids": [17]}}.
// Strict: unknown keys, keys given twice and routers given twice are errors, and numbers are whole
// and not negative. Which of them exist is the server's to say.
#pragma once

#include <string_view>
#include <vector>

#include "monet/v1/mask.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

// Entries in the file's order. Errors: INVALID_ARGUMENT saying where in the file.
absl::StatusOr<std::vector<v1::RouterExperts>> ParseExpertsFile(std::string_view json);

}  // namespace monet::cli
