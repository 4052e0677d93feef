// Prometheus metrics: vLLM's names and meanings under the prefix monet_, labelled model_name, and
// the port that serves them. Everything is thread-safe.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "runtime/policy/registry.h"

namespace monet::server {

class Metrics {
 public:
  explicit Metrics(const std::string& model_name);
  ~Metrics();

  // Every call, by method and gRPC status name.
  void CountCall(std::string_view method, std::string_view code);
  // A call that was refused before it reached the model.
  void CountRejection(std::string_view reason);
  // A request that the engine finished with status OK: "stop", "length", "score" or
  // "explain".
  void CountFinish(std::string_view finished_reason);
  void ObserveResult(const EngineResult& result, Clock::duration end_to_end);
  // Time between two deltas of a stream, for each of the later one's tokens.
  void ObserveInterTokenLatency(Clock::duration gap, size_t tokens);
  void ObserveStep(const StepReport& report);

  // The engine's figures are read at each scrape; null again before the engine goes.
  void SetEngine(std::function<EngineStats()> stats, int32_t block_size);
  // Replaces the series of an earlier snapshot.
  void SetPolicies(const PolicySnapshot& snapshot);
  void CountPolicyReloadFailure() { policy_reload_failures_.Increment(); }
  // `certificate`: "server" or "client_ca"; seconds since 1970.
  void SetCertificateExpiry(const std::string& certificate, int64_t expiry);
  void CountCertificateReloadFailure() { certificate_reload_failures_.Increment(); }

  // Starts serving /metrics. Errors: INVALID_ARGUMENT when the address cannot be had.
  absl::Status Listen(const std::string& address);
  int32_t port() const { return port_; }

  // For metrics that are declared elsewhere: they are served with these.
  prometheus::Registry* registry() const { return registry_.get(); }
  const std::map<std::string, std::string>& labels() const { return labels_; }

 private:
  class EngineCollector;

  const std::map<std::string, std::string> labels_;
  std::shared_ptr<prometheus::Registry> registry_;
  std::shared_ptr<EngineCollector> engine_;
  prometheus::Family<prometheus::Counter>& calls_;
  prometheus::Family<prometheus::Counter>& rejections_;
  prometheus::Family<prometheus::Counter>& finished_;
  prometheus::Counter& masked_weight_;
  prometheus::Family<prometheus::Gauge>& policy_info_;
  prometheus::Family<prometheus::Gauge>& masked_experts_;
  prometheus::Counter& policy_reload_failures_;
  prometheus::Family<prometheus::Gauge>& certificate_expiry_;
  prometheus::Counter& certificate_reload_failures_;
  prometheus::Histogram& time_to_first_token_;
  prometheus::Histogram& inter_token_;
  prometheus::Histogram& end_to_end_;
  prometheus::Histogram& queue_time_;
  prometheus::Histogram& iteration_tokens_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  int32_t port_ = 0;
  std::mutex policies_mutex_;
  // The series of the snapshot in force.
  std::vector<std::pair<prometheus::Family<prometheus::Gauge>*, prometheus::Gauge*>> policies_;
};

}  // namespace monet::server
