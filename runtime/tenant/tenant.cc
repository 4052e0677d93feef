#include "runtime/tenant/tenant.h"

#include <algorithm>

#include "runtime/limits.h"

namespace monet {

bool Tenant::Allows(const Policy& policy) const {
  return allow_all || std::any_of(allow.begin(), allow.end(),
                                  [&](const PolicyReference& entry) { return entry.Fits(policy); });
}

bool Tenant::AllowsName(std::string_view policy_name) const {
  return allow_all || std::any_of(allow.begin(), allow.end(), [&](const PolicyReference& entry) {
           return entry.name == policy_name;
         });
}

std::shared_ptr<const Tenant> OpenTenant() {
  static const std::shared_ptr<const Tenant> tenant = [] {
    auto open = std::make_shared<Tenant>();
    open->name = kAnonymous;
    open->allow_all = true;
    open->explicit_masks = true;
    open->limits.max_priority = limits::kMaxPriority;
    open->cache_domain = kAnonymous;
    return open;
  }();
  return tenant;
}

}  // namespace monet
