// Who is calling, decided once at admission and carried to the engine, the cache and the metrics;
// and what its mask is.
#pragma once

#include <grpcpp/server_context.h>

#include <memory>

#include "runtime/base/status.h"
#include "runtime/policy/registry.h"
#include "runtime/tenant/tenant_registry.h"
#include "server/request_conversion.h"

namespace monet::server {

// A caller. Its tenant stays as it was at admission, whatever is reloaded meanwhile.
struct Identity {
  std::shared_ptr<const Tenant> tenant = OpenTenant();  // never null
};

// What a call shows of itself. The certificate's subjects count only when gRPC verified it: the
// server's credentials must not be of the kind that asks for certificates without verifying them.
Credentials CredentialsOf(const grpc::ServerContextBase& context);

// The one place where a call becomes a tenant's. Errors: UNAUTHENTICATED. Cheap: runs on gRPC's
// own threads.
absl::StatusOr<Identity> Authenticate(const TenantRegistry& tenants,
                                      const grpc::ServerContextBase& context);

// The mask of a call: the tenant's mandatory policies first, then what the request chose and the
// tenant may choose; all unite. Errors: those of ResolveMask; PERMISSION_DENIED for explicit
// experts; NOT_FOUND for a policy that the tenant may not name, as if it were not there;
// FAILED_PRECONDITION when a mandatory policy cannot be had, so that the call never runs without
// it.
absl::StatusOr<ResolvedMask> ResolveCallMask(const PolicySnapshot& snapshot, const Tenant& tenant,
                                             const MaskChoice& choice);

// What the tenant's shadow policies would remove together, to be measured beside a call; null when
// it has none or none of them can be had, since measuring never stands in a call's way.
std::shared_ptr<const ExpertMask> ResolveShadow(const PolicySnapshot& snapshot,
                                                const Tenant& tenant);

// Finds a policy for the tenant: NOT_FOUND also for one that is there but that it neither may name
// nor always runs under. Errors name the field "policy", as PolicySnapshot::Find.
absl::StatusOr<std::shared_ptr<const Policy>> FindVisible(const PolicySnapshot& snapshot,
                                                          const Tenant& tenant,
                                                          const std::string& reference);

// True when the policy is one of the tenant's mandatory ones.
bool IsMandatory(const PolicySnapshot& snapshot, const Tenant& tenant, const Policy& policy);

}  // namespace monet::server
