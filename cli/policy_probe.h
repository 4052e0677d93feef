// Evidence from a server that a policy does what its file says: an explanation of a text under the
// policy, in which every active expert that the policy removes must be marked as removed, and no
// other one.
#pragma once

#include <cstdint>
#include <string>

#include "cli/connection.h"
#include "runtime/base/status.h"
#include "runtime/policy/policy.h"

namespace monet::cli {

struct ProbeResult {
  int64_t tokens = 0;
  int64_t active = 0;   // active experts, summed over tokens and routers
  int64_t removed = 0;  // of these the policy's
  double removed_weight_share = 0;
  bool has_mandatory = false;  // the server added policies of the caller's tenant
};

// The server must have the policy under its name and version, with the same digest; the mask of the
// call is the policy's own, unless mandatory policies are added. Errors: those of the calls;
// FAILED_PRECONDITION, exit code 1, for another digest; BadAnswer when an expert of the policy is
// not removed, when one is that nobody asked for, or when weights do not add up.
absl::StatusOr<ProbeResult> ProbePolicy(const Policy& policy, const std::string& text,
                                        Connection* connection);

}  // namespace monet::cli
