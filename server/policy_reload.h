// Takes a changed policy directory over while the server runs: as a whole or not at all.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "runtime/base/status.h"
#include "runtime/policy/registry.h"
#include "server/metrics.h"
#include "server/reloads.h"

namespace monet::server {

// "12 policies"
std::string PolicySummary(const PolicySnapshot& snapshot);
// "12 policies; added no-python@2, removed no-java@1"; as PolicySummary when they are the same.
std::string PolicySummary(const PolicySnapshot& before, const PolicySnapshot& now);

// Registry and metrics must outlive it. One thread at a time.
class PolicyReload {
 public:
  PolicyReload(std::filesystem::path directory, PolicyRegistry* registry, Metrics* metrics);

  // A request that runs keeps its snapshot; later ones get the new one. Errors, each counted by
  // monet_policy_reload_failures_total: those of PolicySnapshot::Load, a version whose content has
  // changed among them.
  absl::StatusOr<ReloadOutcome> Run(ReloadTrigger trigger);

 private:
  const std::filesystem::path directory_;
  PolicyRegistry* const registry_;
  Metrics* const metrics_;
  WatchedFiles watched_;
};

}  // namespace monet::server
