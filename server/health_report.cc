#include "server/health_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace monet::server {
namespace {

using Json = nlohmann::ordered_json;

double Seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

Json EngineJson(const ServingModel& model) {
  const EngineStats stats = model.engine->Stats();
  const double blocks = static_cast<double>(std::max<int64_t>(1, stats.kv_blocks));
  return {{"last_step_age_seconds", std::max(0.0, Seconds(Clock::now() - stats.last_step))},
          {"requests_running", stats.running},
          {"requests_waiting", stats.waiting},
          {"steps", stats.steps},
          {"kv_cache_usage", static_cast<double>(stats.kv_blocks_used) / blocks},
          {"mask_slots_used", stats.mask_slots_used}};
}

}  // namespace

void HealthReport::SetModel(const ServingModel* model) {
  std::lock_guard lock(mutex_);
  model_ = model;
}

void HealthReport::SetServing(bool serving) {
  std::lock_guard lock(mutex_);
  serving_ = serving;
}

void HealthReport::SetUnresolved(const std::vector<UnresolvedPolicy>& unresolved) {
  std::lock_guard lock(mutex_);
  unresolved_ = unresolved;
}

Json HealthReport::Describe() const {
  Json report;
  std::lock_guard lock(mutex_);
  if (admission_->draining()) {
    report["state"] = "draining";
  } else if (model_ == nullptr) {
    report["state"] = "loading";
  } else {
    report["state"] = serving_ ? "serving" : "not_serving";
  }
  report["version"] = MONET_VERSION;
  report["uptime_seconds"] = Seconds(std::chrono::steady_clock::now() - start_);
  report["calls"] = admission_->inside();
  if (model_ != nullptr) {
    report["model"] = {{"name", model_->shape.model_name},
                       {"fingerprint", model_->weights->fingerprint().ToString()},
                       {"system_fingerprint", model_->system_fingerprint}};
    report["engine"] = EngineJson(*model_);
    report["policies"] = model_->policies->Current()->policies().size();
    report["unresolved_mandatory_policies"] = Json::array();
    for (const UnresolvedPolicy& policy : unresolved_) {
      report["unresolved_mandatory_policies"].push_back(
          {{"tenant", policy.tenant}, {"policy", policy.reference}, {"cause", policy.cause}});
    }
  }
  report["reloads"] = Json::array();
  for (const Reloads::State& state : reloads_->States()) {
    Json entry = {{"name", state.name}, {"summary", state.summary}};
    if (!state.error.empty()) entry["error"] = state.error;
    report["reloads"].push_back(std::move(entry));
  }
  return report;
}

}  // namespace monet::server
