// What an administrator sees of a running server, as JSON.
#pragma once

#include <chrono>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "runtime/tenant/mandatory_policies.h"
#include "server/admission.h"
#include "server/reloads.h"
#include "server/serving_model.h"

namespace monet::server {

// Thread-safe; never waits for inference.
class HealthReport {
 public:
  // Both must outlive it.
  HealthReport(const Admission* admission, const Reloads* reloads)
      : admission_(admission), reloads_(reloads) {}

  // The loaded model, and null again before it goes.
  void SetModel(const ServingModel* model);
  // What grpc.health.v1 says.
  void SetServing(bool serving);
  // The mandatory policies that cannot be had now.
  void SetUnresolved(const std::vector<UnresolvedPolicy>& unresolved);

  // "state" is loading, serving, not_serving (loaded, but not ready) or draining.
  nlohmann::ordered_json Describe() const;

 private:
  const Admission* const admission_;
  const Reloads* const reloads_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  const ServingModel* model_ = nullptr;
  bool serving_ = false;
  std::vector<UnresolvedPolicy> unresolved_;
};

}  // namespace monet::server
