// Keeps the tenants in force up to date: looks at their files every few seconds, reloads on demand,
// and says after each change whether every mandatory policy can be had. Warns in the log of names
// that are not there.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/policy/registry.h"
#include "runtime/tenant/mandatory_policies.h"
#include "runtime/tenant/tenant_registry.h"
#include "server/tenant_metrics.h"

namespace monet::server {

// What WarnOfNames gave, in the log; of many only the first and how many more.
void LogWarnings(const std::vector<std::string>& warnings);

class TenantWatcher {
 public:
  // Called by Start, and later whenever what cannot be had may have changed; never concurrently.
  using OnResolved = std::function<void(const std::vector<UnresolvedPolicy>&)>;

  // All must outlive this.
  TenantWatcher(TenantRegistry* tenants, const PolicyRegistry* policies, TenantMetrics* metrics,
                OnResolved on_resolved)
      : tenants_(tenants),
        policies_(policies),
        metrics_(metrics),
        on_resolved_(std::move(on_resolved)) {}
  ~TenantWatcher() { Stop(); }

  // Resolves once, then starts the thread.
  void Start(std::chrono::milliseconds interval);
  // Idempotent. Afterwards on_resolved is not called any more.
  void Stop();

  // Thread-safe. Reads the files now if one has changed; says whether one had.
  bool ReloadIfChanged();
  // Thread-safe. Of the last reload; OK before the first.
  absl::Status last() const;
  // Thread-safe. The policies in force are others.
  void PoliciesChanged() { Resolve(); }

 private:
  void Run(std::chrono::milliseconds interval);
  void Note(const absl::Status& status);
  void Resolve();

  TenantRegistry* const tenants_;
  const PolicyRegistry* const policies_;
  TenantMetrics* const metrics_;
  const OnResolved on_resolved_;
  std::mutex resolve_mutex_;  // one resolution at a time
  bool resolving_ = false;    // under resolve_mutex_: between Start and Stop
  mutable std::mutex mutex_;
  absl::Status last_;  // under mutex_
  std::condition_variable stopped_;
  bool stopping_ = false;  // under mutex_
  std::thread thread_;
};

}  // namespace monet::server
