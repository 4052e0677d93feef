// Metrics about tenants: reloads of their files and mandatory policies that cannot be had.
// Thread-safe.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/tenant/mandatory_policies.h"

namespace monet::server {

class TenantMetrics {
 public:
  // `labels` are on every series. The registry must outlive this.
  TenantMetrics(prometheus::Registry* registry, const std::map<std::string, std::string>& labels);

  void CountReload(bool ok);
  // Those in force now; what is no longer among them goes. At most limits::kMaxTenantMetrics.
  void SetUnresolved(const std::vector<UnresolvedPolicy>& unresolved);

 private:
  prometheus::Counter& reloads_;
  prometheus::Counter& reload_failures_;
  prometheus::Family<prometheus::Gauge>& unresolved_;
  std::mutex mutex_;
  std::vector<prometheus::Gauge*> unresolved_series_;  // under mutex_
};

}  // namespace monet::server
