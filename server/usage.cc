#include "server/usage.h"

#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "runtime/limits.h"

namespace monet::server {
namespace {

constexpr size_t kQueuedLines = 8192;

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// 2027-01-31T23:59:59.123Z
std::string Now() {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto day = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(now - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

auto& CountersOf(prometheus::Registry* registry, const std::map<std::string, std::string>& labels,
                 const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Labels(labels).Register(*registry);
}

}  // namespace

std::string UsageLine(const CallRecord& record, std::string_view model, std::string_view time) {
  nlohmann::ordered_json line = {{"time", time},
                                 {"request_id", record.request_id},
                                 {"tenant", record.tenant},
                                 {"method", record.method},
                                 {"model", model},
                                 {"code", record.code}};
  if (*record.reason != '\0') line["reason"] = record.reason;
  if (!record.limit.empty()) line["limit"] = record.limit;
  line["policies"] = nlohmann::ordered_json::array();
  for (const auto& policy : record.policies) {
    line["policies"].push_back({{"name", policy->name},
                                {"version", policy->version},
                                {"digest", policy->digest.ToString()}});
  }
  line["mask_digest"] = record.mask_digest;
  line["prompt_tokens"] = record.prompt_tokens;
  line["completion_tokens"] = record.completion_tokens;
  line["cached_tokens"] = record.cached_tokens;
  if (record.removed_weight_share) line["removed_weight_share"] = *record.removed_weight_share;
  if (record.shadow_weight_share) line["shadow_weight_share"] = *record.shadow_weight_share;
  line["queue_ms"] = Milliseconds(record.queue_time);
  line["duration_ms"] = Milliseconds(record.duration);
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

absl::Status CheckUsageLog(const std::string& path) {
  if (path == "-") return absl::OkStatus();
  const std::filesystem::path file(path);
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  std::error_code error;
  // spdlog would make it, and hide that the path is misspelt or its volume not mounted.
  if (!std::filesystem::is_directory(folder, error)) {
    return InvalidArgument("usage_log: {}: there is no folder {}", path, folder.string());
  }
  if (std::filesystem::is_directory(file, error)) {
    return InvalidArgument("usage_log: {}: is a folder", path);
  }
  const bool exists = std::filesystem::exists(file, error);
  if (access(exists ? file.c_str() : folder.c_str(), W_OK) != 0) {
    return InvalidArgument("usage_log: {} cannot be written: {}", path,
                           std::generic_category().message(errno));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<UsageLog>> UsageLog::Open(const std::string& path,
                                                         std::string model) {
  MONET_RETURN_IF_ERROR(CheckUsageLog(path));
  std::unique_ptr<UsageLog> log(new UsageLog(std::move(model)));
  try {
    spdlog::sink_ptr sink;
    if (path == "-") {
      sink = std::make_shared<spdlog::sinks::stdout_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    }
    log->thread_ = std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1);
    log->logger_ = std::make_shared<spdlog::async_logger>(
        "usage", std::move(sink), log->thread_, spdlog::async_overflow_policy::overrun_oldest);
    log->logger_->set_pattern("%v");
    log->logger_->set_level(spdlog::level::info);
    log->logger_->flush_on(spdlog::level::info);
    log->logger_->set_error_handler([lost = &log->failed_](const std::string& error) {
      if (lost->fetch_add(1) == 0) spdlog::error("usage_log: a line is lost: {}", error);
    });
  } catch (const spdlog::spdlog_ex&) {
    return InvalidArgument("usage_log: {} cannot be written", path);
  }
  return log;
}

UsageLog::~UsageLog() {
  logger_.reset();
  thread_.reset();  // after what is queued
}

void UsageLog::Write(const CallRecord& record) {
  logger_->info("{}", UsageLine(record, model_, Now()));
}

int64_t UsageLog::lost() const {
  return static_cast<int64_t>(thread_->overrun_counter()) + failed_.load();
}

UsageMetrics::UsageMetrics(prometheus::Registry* registry,
                           const std::map<std::string, std::string>& labels)
    : requests_(CountersOf(registry, labels, "monet_tenant_requests_total",
                           "Finished calls of each tenant, by gRPC status.")),
      prompt_tokens_(CountersOf(registry, labels, "monet_tenant_prompt_tokens_total",
                                "Prompt tokens of each tenant's calls.")),
      generation_tokens_(CountersOf(registry, labels, "monet_tenant_generation_tokens_total",
                                    "Tokens generated for each tenant.")),
      limited_(CountersOf(registry, labels, "monet_tenant_limited_total",
                          "Calls that a limit of their tenant refused, by limit.")),
      shadow_weight_(CountersOf(registry, labels, "monet_shadow_routing_weight_total",
                                "Share of a token's routing weight that the shadow policies of a "
                                "tenant would remove, summed over the tokens they were measured "
                                "on.")),
      policy_requests_(CountersOf(registry, labels, "monet_policy_requests_total",
                                  "Finished calls that each policy was applied to.")),
      policy_prompt_tokens_(CountersOf(registry, labels, "monet_policy_prompt_tokens_total",
                                       "Prompt tokens of those calls.")),
      policy_generation_tokens_(CountersOf(registry, labels, "monet_policy_generation_tokens_total",
                                           "Tokens generated by those calls.")),
      lost_lines_(CountersOf(registry, labels, "monet_usage_log_lost_lines_total",
                             "Lines of the usage log that could not be written.")
                      .Add({})) {}

std::string UsageMetrics::Label(const std::string& name, size_t cap, std::set<std::string>* seen) {
  if (seen->contains(name)) return name;
  if (seen->size() >= cap) return "other";
  seen->insert(name);
  return name;
}

void UsageMetrics::SetLostLines(int64_t lost) {
  const std::lock_guard lock(mutex_);
  const double more = static_cast<double>(lost) - lost_lines_.Value();
  if (more > 0) lost_lines_.Increment(more);
}

void UsageMetrics::Count(const CallRecord& record) {
  std::string tenant;
  std::set<std::string> policies;  // several versions of one policy count once
  {
    const std::lock_guard lock(mutex_);
    tenant = Label(record.tenant, limits::kMaxTenantMetrics, &tenants_);
    for (const auto& policy : record.policies) {
      policies.insert(Label(policy->name, limits::kMaxPolicyMetrics, &policies_));
    }
  }
  const auto prompt = static_cast<double>(record.prompt_tokens);
  const auto generated = static_cast<double>(record.completion_tokens);
  requests_.Add({{"tenant", tenant}, {"code", record.code}}).Increment();
  prompt_tokens_.Add({{"tenant", tenant}}).Increment(prompt);
  generation_tokens_.Add({{"tenant", tenant}}).Increment(generated);
  if (!record.limit.empty()) {
    limited_.Add({{"tenant", tenant}, {"limit", record.limit}}).Increment();
  }
  if (record.shadow_weight_share) {
    shadow_weight_.Add({{"tenant", tenant}})
        .Increment(*record.shadow_weight_share * (prompt + generated));
  }
  for (const std::string& policy : policies) {
    policy_requests_.Add({{"policy", policy}}).Increment();
    policy_prompt_tokens_.Add({{"policy", policy}}).Increment(prompt);
    policy_generation_tokens_.Add({{"policy", policy}}).Increment(generated);
  }
}

}  // namespace monet::server
