#include "server/tenant_metrics.h"

#include "runtime/limits.h"

namespace monet::server {

TenantMetrics::TenantMetrics(prometheus::Registry* registry,
                             const std::map<std::string, std::string>& labels)
    : reloads_(prometheus::BuildCounter()
                   .Name("monet_tenants_reloads_total")
                   .Help("Times that tenants and keys were read and taken over.")
                   .Labels(labels)
                   .Register(*registry)
                   .Add({})),
      reload_failures_(prometheus::BuildCounter()
                           .Name("monet_tenants_reload_failures_total")
                           .Help("Times that tenants or keys had an error, so that the last good "
                                 "ones stayed in force.")
                           .Labels(labels)
                           .Register(*registry)
                           .Add({})),
      unresolved_(prometheus::BuildGauge()
                      .Name("monet_mandatory_policy_unresolved")
                      .Help("Mandatory policies that this server cannot have; always 1.")
                      .Labels(labels)
                      .Register(*registry)) {}

void TenantMetrics::CountReload(bool ok) { (ok ? reloads_ : reload_failures_).Increment(); }

void TenantMetrics::SetUnresolved(const std::vector<UnresolvedPolicy>& unresolved) {
  const std::lock_guard lock(mutex_);
  for (prometheus::Gauge* series : unresolved_series_) unresolved_.Remove(series);
  unresolved_series_.clear();
  for (const UnresolvedPolicy& policy : unresolved) {
    if (unresolved_series_.size() == limits::kMaxTenantMetrics) break;
    prometheus::Gauge& series =
        unresolved_.Add({{"tenant", policy.tenant}, {"policy", policy.reference}});
    series.Set(1);
    unresolved_series_.push_back(&series);
  }
}

}  // namespace monet::server
