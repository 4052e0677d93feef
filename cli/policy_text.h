// A new policy as the files of a policy directory.
#pragma once

#include <string>

#include "runtime/base/status.h"
#include "runtime/policy/policy.h"

namespace monet::cli {

// The policy with its mask beside it, VERSION.mask; its digest and semantics are set here. `built`
// is the value of that key, a map in YAML's flow style, of valid UTF-8. Errors: INVALID_ARGUMENT
// when the server's parser would not take it.
absl::StatusOr<PolicyFile> MakePolicyFile(Policy policy, const std::string& built);

}  // namespace monet::cli
