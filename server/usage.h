// What every finished call used, for whoever pays for it: counters per tenant and per policy, and a
// JSON line a call.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/registry.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "runtime/policy/registry.h"

namespace spdlog {
class logger;
namespace details {
class thread_pool;
}
}  // namespace spdlog

namespace monet::server {

// A call of a tenant, once it is over.
struct CallRecord {
  const char* method = "";
  std::string tenant;
  std::string request_id;   // empty when it was refused before it had one
  std::string mask_digest;  // likewise
  std::vector<std::shared_ptr<const Policy>> policies;  // applied, mandatory ones too
  const char* code = "OK";                              // name of the gRPC status
  const char* reason = "";                              // of a refusal
  std::string limit;                                    // of the tenant, that refused it
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  std::optional<double> removed_weight_share;  // of calls that ran
  std::optional<double> shadow_weight_share;   // of calls whose shadow was measured
  Clock::duration queue_time{};
  Clock::duration duration{};
};

// One JSON object, without a newline. `time` is that of the call's end.
std::string UsageLine(const CallRecord& record, std::string_view model, std::string_view time);

// Whether UsageLog can be opened, without making a file. Errors: INVALID_ARGUMENT naming the
// setting and what is missing.
absl::Status CheckUsageLog(const std::string& path);

// JSON lines in a file or on standard output, written by a thread of its own: callers never wait.
// Thread-safe.
class UsageLog {
 public:
  // `path` "-" is standard output; a file is appended to, and made in a folder that is there.
  // Errors: INVALID_ARGUMENT: those of CheckUsageLog, or when it cannot be written.
  static absl::StatusOr<std::unique_ptr<UsageLog>> Open(const std::string& path, std::string model);
  // Writes what is queued.
  ~UsageLog();

  void Write(const CallRecord& record);
  // Lines lost because more came than the disk took, or because it took none.
  int64_t lost() const;

 private:
  explicit UsageLog(std::string model) : model_(std::move(model)) {}

  const std::string model_;
  std::atomic<int64_t> failed_ = 0;
  std::shared_ptr<spdlog::details::thread_pool> thread_;
  std::shared_ptr<spdlog::logger> logger_;
};

// Counters. Labels have a cap: later tenants and policies are counted as "other". Thread-safe.
class UsageMetrics {
 public:
  // `labels` are on every series. The registry must outlive this.
  UsageMetrics(prometheus::Registry* registry, const std::map<std::string, std::string>& labels);
  void Count(const CallRecord& record);
  // `lost`: of the usage log since its start; never falls.
  void SetLostLines(int64_t lost);

 private:
  using Counters = prometheus::Family<prometheus::Counter>;
  // The name, or "other" when `seen` is full.
  static std::string Label(const std::string& name, size_t cap, std::set<std::string>* seen);

  Counters& requests_;
  Counters& prompt_tokens_;
  Counters& generation_tokens_;
  Counters& limited_;
  Counters& shadow_weight_;
  Counters& policy_requests_;
  Counters& policy_prompt_tokens_;
  Counters& policy_generation_tokens_;
  prometheus::Counter& lost_lines_;
  std::mutex mutex_;
  std::set<std::string> tenants_;   // under mutex_: those with series of their own
  std::set<std::string> policies_;  // under mutex_: likewise
};

// Both, in one call.
struct Usage {
  UsageMetrics* metrics = nullptr;
  UsageLog* log = nullptr;  // null: none is kept

  void Record(const CallRecord& record) const {
    metrics->Count(record);
    if (log == nullptr) return;
    log->Write(record);
    metrics->SetLostLines(log->lost());
  }
};

}  // namespace monet::server
