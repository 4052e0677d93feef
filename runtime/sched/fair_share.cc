#include "runtime/sched/fair_share.h"

#include <algorithm>
#include <limits>

#include "runtime/base/check.h"

namespace monet {

FairShare::Tenant* FairShare::Arrive(const std::string& name) {
  Tenant& tenant = tenants_[name];
  if (tenant.requests() > 0) {
    ++tenant.waiting;
    return &tenant;
  }
  tenant.waiting = 1;
  double least = std::numeric_limits<double>::infinity();
  for (const auto& [other, state] : tenants_) {
    if (state.requests() > 0 && &state != &tenant) least = std::min(least, state.used);
  }
  if (least == std::numeric_limits<double>::infinity()) {
    // Nobody else is there to be fair to: all start anew, and the sums stay small.
    std::erase_if(tenants_, [&](const auto& entry) { return &entry.second != &tenant; });
    tenant.used = 0;
    return &tenant;
  }
  tenant.used = std::max(tenant.used, least);
  std::erase_if(tenants_, [&](const auto& entry) {
    return entry.second.requests() == 0 && entry.second.used <= least;
  });
  return &tenant;
}

void FairShare::Run(Tenant* tenant, int32_t tokens, double weight) {
  MONET_CHECK(tenant->waiting > 0);
  --tenant->waiting;
  ++tenant->running;
  tenant->reserved += tokens / weight;
}

void FairShare::Cancel(Tenant* tenant) {
  MONET_CHECK(tenant->waiting > 0);
  --tenant->waiting;
}

void FairShare::End(Tenant* tenant, int32_t tokens, int32_t used, double weight) {
  MONET_CHECK(tenant->running > 0);
  tenant->used += used / weight;
  // When nothing runs it is exactly nothing, whatever the sums were rounded to.
  tenant->reserved = --tenant->running == 0 ? 0 : tenant->reserved - tokens / weight;
}

}  // namespace monet
