#include "runtime/tenant/mandatory_policies.h"

namespace monet {
namespace {

// More are counted, not named: the line goes to a terminal and to the log.
constexpr size_t kMostNamed = 8;

}  // namespace

std::vector<UnresolvedPolicy> FindUnresolved(const TenantSet& tenants,
                                             const PolicySnapshot& policies) {
  std::vector<UnresolvedPolicy> unresolved;
  for (const auto& tenant : tenants.tenants()) {
    for (const PolicyReference& reference : tenant->require) {
      const auto policy = policies.Find(reference);
      if (policy.ok()) continue;
      unresolved.push_back({tenant->name, reference.ToString(), Message(policy.status())});
    }
  }
  return unresolved;
}

std::string Describe(const std::vector<UnresolvedPolicy>& unresolved) {
  std::string text;
  for (size_t n = 0; n < unresolved.size() && n < kMostNamed; ++n) {
    const UnresolvedPolicy& policy = unresolved[n];
    text += fmt::format("{}tenant {} requires {}: {}", n == 0 ? "" : "; ", policy.tenant,
                        policy.reference, policy.cause);
  }
  if (unresolved.size() > kMostNamed) {
    text += fmt::format("; and {} more", unresolved.size() - kMostNamed);
  }
  return text;
}

}  // namespace monet
