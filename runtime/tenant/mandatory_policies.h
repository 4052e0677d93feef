// Whether every tenant's mandatory policies can be had.
#pragma once

#include <string>
#include <vector>

#include "runtime/policy/registry.h"
#include "runtime/tenant/tenant_set.h"

namespace monet {

struct UnresolvedPolicy {
  std::string tenant;
  std::string reference;  // as the tenant requires it
  std::string cause;      // "policy x is not known"
};

// In the order of the tenants and their lists. Empty: all can be had.
std::vector<UnresolvedPolicy> FindUnresolved(const TenantSet& tenants,
                                             const PolicySnapshot& policies);

// One line for people: "tenant acme requires x@2: policy x@2 is not known; tenant …".
std::string Describe(const std::vector<UnresolvedPolicy>& unresolved);

}  // namespace monet
