// Who is calling, decided once at admission and carried to the engine, the cache and the metrics.
#pragma once

#include <grpcpp/server_context.h>

#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/policy/registry.h"
#include "server/request_conversion.h"

namespace monet::server {

// A caller's rights. The anonymous caller may use every policy and explicit experts.
struct Identity {
  std::string tenant = "anonymous";
  std::string cache_domain = "anonymous";       // whose cached prefixes it shares
  std::vector<std::string> mandatory_policies;  // references; in force on every call
  bool all_policies_allowed = true;
  std::vector<std::string> allowed_policies;  // names, when not all are allowed
  bool explicit_experts_allowed = true;

  bool Allows(std::string_view policy_name) const;
};

// The one place where a call becomes a tenant's. Errors: UNAUTHENTICATED. Cheap: runs on gRPC's
// own threads.
absl::StatusOr<Identity> Authenticate(const grpc::ServerContextBase& context);

// The mask of a call: mandatory policies first, then what the request chose and the tenant may
// choose; all unite. Errors: PERMISSION_DENIED; those of ResolveMask; FAILED_PRECONDITION when a
// mandatory policy cannot be had, so that the call never runs without it.
absl::StatusOr<ResolvedMask> ResolveCallMask(const PolicySnapshot& snapshot,
                                             const Identity& identity, const MaskChoice& choice);

// True when the policy is one of the identity's mandatory ones.
bool IsMandatory(const PolicySnapshot& snapshot, const Identity& identity, const Policy& policy);

}  // namespace monet::server
