#include "server/tenant_watcher.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "runtime/tenant/named_policies.h"

namespace monet::server {
namespace {

constexpr size_t kMostLogged = 16;

}  // namespace

void LogWarnings(const std::vector<std::string>& warnings) {
  const size_t logged = std::min(warnings.size(), kMostLogged);
  for (size_t n = 0; n < logged; ++n) spdlog::warn("{}", warnings[n]);
  if (logged < warnings.size()) spdlog::warn("and {} more of these", warnings.size() - logged);
}

void TenantWatcher::Start(std::chrono::milliseconds interval) {
  {
    const std::lock_guard lock(resolve_mutex_);
    resolving_ = true;
  }
  Resolve();
  thread_ = std::thread([this, interval] { Run(interval); });
}

void TenantWatcher::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  if (thread_.joinable()) thread_.join();
  const std::lock_guard lock(resolve_mutex_);
  resolving_ = false;
}

bool TenantWatcher::ReloadIfChanged() {
  const auto status = tenants_->ReloadIfChanged();
  if (status) {
    Note(*status);
  } else if (!last().ok()) {
    metrics_->CountReload(false);  // every look, so that an alert lasts as long as the error
  }
  return status.has_value();
}

absl::Status TenantWatcher::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

void TenantWatcher::Run(std::chrono::milliseconds interval) {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, interval, [this] { return stopping_; })) {
    lock.unlock();
    ReloadIfChanged();
    lock.lock();
  }
}

void TenantWatcher::Note(const absl::Status& status) {
  metrics_->CountReload(status.ok());
  {
    const std::lock_guard lock(mutex_);
    last_ = status;
  }
  if (!status.ok()) {
    spdlog::error("tenants not reloaded, the last good ones stay in force: {}", Message(status));
    return;
  }
  const auto set = tenants_->Current();
  spdlog::info("tenants reloaded: {} tenants, {} keys", set->tenants().size(), set->keys().size());
  Resolve();
}

void TenantWatcher::Resolve() {
  const std::lock_guard lock(resolve_mutex_);
  if (!resolving_) return;
  const auto unresolved = FindUnresolved(*tenants_->Current(), *policies_->Current());
  LogWarnings(WarnOfNames(*tenants_->Current(), policies_->Current().get(), tenants_->file()));
  metrics_->SetUnresolved(unresolved);
  on_resolved_(unresolved);
}

}  // namespace monet::server
