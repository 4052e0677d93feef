#include "server/metrics.h"

#include <algorithm>
#include <exception>
#include <map>
#include <utility>
#include <vector>

#include "runtime/limits.h"

namespace monet::server {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::map<std::string, std::string>;

// Seconds, 1 ms to 80 s.
const prometheus::Histogram::BucketBoundaries kLatencyBuckets = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25, 0.5,
    0.75,  1.0,   2.5,  5.0,  7.5,  10.0, 20.0, 40.0, 80.0};
const prometheus::Histogram::BucketBoundaries kTokenBuckets = {1,  2,   4,   8,   16,   32,
                                                               64, 128, 256, 512, 1024, 4096};

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

prometheus::Family<prometheus::Counter>& Counters(prometheus::Registry& registry,
                                                  const Labels& labels, const char* name,
                                                  const char* help) {
  return BuildCounter().Name(name).Help(help).Labels(labels).Register(registry);
}

prometheus::Histogram& HistogramOf(prometheus::Registry& registry, const Labels& labels,
                                   const char* name, const char* help,
                                   const prometheus::Histogram::BucketBoundaries& buckets) {
  return BuildHistogram().Name(name).Help(help).Labels(labels).Register(registry).Add({}, buckets);
}

}  // namespace

// Turns the engine's figures into metrics when asked, so that no gauge is ever stale.
class Metrics::EngineCollector final : public prometheus::Collectable {
 public:
  explicit EngineCollector(Labels labels) : labels_(std::move(labels)) {}

  void Set(std::function<EngineStats()> stats, int32_t block_size) {
    std::lock_guard lock(mutex_);
    stats_ = std::move(stats);
    block_size_ = block_size;
  }

  std::vector<MetricFamily> Collect() const override {
    std::lock_guard lock(mutex_);
    if (!stats_) return {};
    const EngineStats s = stats_();
    const double blocks = static_cast<double>(std::max<int64_t>(1, s.kv_blocks));
    const double age = std::max(0.0, Seconds(Clock::now() - s.last_step));
    return {
        Gauge("monet_num_requests_running", "Requests in the running set.", s.running),
        Gauge("monet_num_requests_waiting", "Requests waiting for admission.", s.waiting),
        Gauge("monet_kv_cache_usage_perc", "Share of key/value blocks in use, 0 to 1.",
              static_cast<double>(s.kv_blocks_used) / blocks),
        Gauge("monet_mask_slots_used", "Distinct masks in use.", s.mask_slots_used),
        Gauge("monet_engine_last_step_age_seconds", "Time since the engine's last turn.", age),
        Counter("monet_engine_steps_total", "Steps of the model.", s.steps),
        Counter("monet_prompt_tokens_total", "Prompt tokens computed.", s.prompt_tokens),
        Counter("monet_generation_tokens_total", "Tokens generated.", s.generation_tokens),
        Gauge("monet_cache_config_info", "The key/value cache; always 1.", 1,
              {{"block_size", std::to_string(block_size_)},
               {"num_blocks", std::to_string(s.kv_blocks)}}),
    };
  }

 private:
  MetricFamily Family(const char* name, const char* help, MetricType type, ClientMetric metric,
                      const Labels& more) const {
    for (const auto& [key, value] : labels_) metric.label.push_back({key, value});
    for (const auto& [key, value] : more) metric.label.push_back({key, value});
    return MetricFamily{name, help, type, {std::move(metric)}};
  }
  template <typename T>
  MetricFamily Gauge(const char* name, const char* help, T value, const Labels& more = {}) const {
    ClientMetric metric;
    metric.gauge.value = static_cast<double>(value);
    return Family(name, help, MetricType::Gauge, std::move(metric), more);
  }
  MetricFamily Counter(const char* name, const char* help, int64_t value) const {
    ClientMetric metric;
    metric.counter.value = static_cast<double>(value);
    return Family(name, help, MetricType::Counter, std::move(metric), {});
  }

  const Labels labels_;
  mutable std::mutex mutex_;
  std::function<EngineStats()> stats_;
  int32_t block_size_ = 0;
};

Metrics::Metrics(const std::string& model_name)
    : labels_({{"model_name", model_name}}),
      registry_(std::make_shared<prometheus::Registry>()),
      engine_(std::make_shared<EngineCollector>(labels_)),
      calls_(Counters(*registry_, labels_, "monet_grpc_requests_total",
                      "Finished calls by method and gRPC status.")),
      rejections_(Counters(*registry_, labels_, "monet_admission_rejections_total",
                           "Calls refused before they reached the model, by reason.")),
      finished_(Counters(*registry_, labels_, "monet_request_success_total",
                         "Requests finished by the engine, by reason.")),
      masked_weight_(Counters(*registry_, labels_, "monet_masked_routing_weight_total",
                              "Share of a token's routing weight removed by masks, summed over "
                              "computed tokens.")
                         .Add({})),
      policy_info_(BuildGauge()
                       .Name("monet_policy_info")
                       .Help("Policies known for the served model; always 1.")
                       .Labels(labels_)
                       .Register(*registry_)),
      masked_experts_(BuildGauge()
                          .Name("monet_masked_experts")
                          .Help("Experts that a policy removes, over all router groups.")
                          .Labels(labels_)
                          .Register(*registry_)),
      policy_reload_failures_(Counters(*registry_, labels_, "monet_policy_reload_failures_total",
                                       "Policy directories that could not be taken over.")
                                  .Add({})),
      certificate_expiry_(BuildGauge()
                              .Name("monet_certificate_expiry_timestamp_seconds")
                              .Help("When a certificate in force expires, seconds since 1970.")
                              .Labels(labels_)
                              .Register(*registry_)),
      certificate_reload_failures_(Counters(*registry_, labels_,
                                            "monet_certificate_reload_failures_total",
                                            "Certificate files that could not be taken over.")
                                       .Add({})),
      time_to_first_token_(HistogramOf(*registry_, labels_, "monet_time_to_first_token_seconds",
                                       "Admission to first token.", kLatencyBuckets)),
      inter_token_(HistogramOf(*registry_, labels_, "monet_inter_token_latency_seconds",
                               "Time between tokens of a request.", kLatencyBuckets)),
      end_to_end_(HistogramOf(*registry_, labels_, "monet_e2e_request_latency_seconds",
                              "Arrival to end of a request.", kLatencyBuckets)),
      queue_time_(HistogramOf(*registry_, labels_, "monet_request_queue_time_seconds",
                              "Admission to first step.", kLatencyBuckets)),
      iteration_tokens_(HistogramOf(*registry_, labels_, "monet_iteration_tokens_total",
                                    "Tokens of one step.", kTokenBuckets)) {
  // Series that alerts refer to exist from the start, at zero.
  for (const char* reason : {"queue_full", "draining", "loading"})
    rejections_.Add({{"reason", reason}});
  for (const char* reason : {"stop", "length", "score", "explain"}) {
    finished_.Add({{"finished_reason", reason}});
  }
}

Metrics::~Metrics() = default;

void Metrics::CountCall(std::string_view method, std::string_view code) {
  calls_.Add({{"method", std::string(method)}, {"code", std::string(code)}}).Increment();
}

void Metrics::CountRejection(std::string_view reason) {
  rejections_.Add({{"reason", std::string(reason)}}).Increment();
}

void Metrics::CountFinish(std::string_view finished_reason) {
  finished_.Add({{"finished_reason", std::string(finished_reason)}}).Increment();
}

void Metrics::ObserveResult(const EngineResult& result, Clock::duration end_to_end) {
  end_to_end_.Observe(Seconds(end_to_end));
  const int32_t tokens = result.usage.prompt_tokens + result.usage.completion_tokens;
  masked_weight_.Increment(std::max(0.0, result.usage.removed_weight_share) * tokens);
  if (!result.status.ok()) return;
  queue_time_.Observe(Seconds(result.queue_time));
  if (result.usage.completion_tokens > 0) {
    time_to_first_token_.Observe(Seconds(result.time_to_first_token));
  }
}

void Metrics::ObserveInterTokenLatency(Clock::duration gap, size_t tokens) {
  for (size_t i = 0; i < tokens; ++i) {
    inter_token_.Observe(Seconds(gap) / static_cast<double>(tokens));
  }
}

void Metrics::ObserveStep(const StepReport& report) { iteration_tokens_.Observe(report.tokens); }

void Metrics::SetEngine(std::function<EngineStats()> stats, int32_t block_size) {
  engine_->Set(std::move(stats), block_size);
}

void Metrics::SetPolicies(const PolicySnapshot& snapshot) {
  std::lock_guard lock(policies_mutex_);
  auto previous = std::exchange(policies_, {});
  const auto set = [this](prometheus::Family<prometheus::Gauge>& family, const Labels& labels,
                          double value) {
    prometheus::Gauge& gauge = family.Add(labels);
    gauge.Set(value);
    policies_.emplace_back(&family, &gauge);
  };
  size_t series = 0;
  for (const auto& policy : snapshot.policies()) {
    if (++series > limits::kMaxPolicyMetrics) break;
    const Labels labels = {{"policy", policy->name}, {"version", std::to_string(policy->version)}};
    set(masked_experts_, labels, static_cast<double>(policy->mask->removed()));
    Labels info = labels;
    info["digest"] = policy->digest.ToString();
    set(policy_info_, info, 1);
  }
  // Add gives the same gauge for the same labels: only those that are not set again go.
  for (const auto& entry : previous) {
    if (std::find(policies_.begin(), policies_.end(), entry) == policies_.end()) {
      entry.first->Remove(entry.second);
    }
  }
}

void Metrics::SetCertificateExpiry(const std::string& certificate, int64_t expiry) {
  certificate_expiry_.Add({{"certificate", certificate}}).Set(static_cast<double>(expiry));
}

absl::Status Metrics::Listen(const std::string& address) {
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(address);
  } catch (const std::exception&) {  // CivetWeb says nothing more
    return InvalidArgument("--metrics-listen {}: cannot listen there; is the port in use?",
                           address);
  }
  const std::vector<int> ports = exposer_->GetListeningPorts();
  port_ = ports.empty() ? 0 : ports.front();
  exposer_->RegisterCollectable(registry_);
  exposer_->RegisterCollectable(engine_);
  return absl::OkStatus();
}

}  // namespace monet::server
