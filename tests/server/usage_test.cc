// What is written and counted for whoever pays.
#include "server/usage.h"

#include <gtest/gtest.h>
#include <prometheus/registry.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "runtime/limits.h"

namespace monet::server {
namespace {

CallRecord Record() {
  auto policy = std::make_shared<Policy>();
  policy->name = "no-insults";
  policy->version = 2;
  CallRecord record;
  record.method = "GenerationService/Generate";
  record.tenant = "acme";
  record.request_id = "r\"1";
  record.mask_digest = "sha256:00";
  record.policies = {policy};
  record.prompt_tokens = 7;
  record.completion_tokens = 5;
  record.cached_tokens = 2;
  record.removed_weight_share = 0.25;
  record.queue_time = std::chrono::microseconds(1500);
  record.duration = std::chrono::milliseconds(20);
  return record;
}

TEST(UsageLine, IsOneJsonObject) {
  const std::string text = UsageLine(Record(), "demo", "2026-06-01T00:00:00.000Z");
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto line = nlohmann::json::parse(text);
  EXPECT_EQ(line["time"], "2026-06-01T00:00:00.000Z");
  EXPECT_EQ(line["request_id"], "r\"1");
  EXPECT_EQ(line["tenant"], "acme");
  EXPECT_EQ(line["method"], "GenerationService/Generate");
  EXPECT_EQ(line["model"], "demo");
  EXPECT_EQ(line["code"], "OK");
  EXPECT_FALSE(line.contains("reason"));
  EXPECT_FALSE(line.contains("limit"));
  ASSERT_EQ(line["policies"].size(), 1u);
  EXPECT_EQ(line["policies"][0]["name"], "no-insults");
  EXPECT_EQ(line["policies"][0]["version"], 2);
  EXPECT_EQ(line["prompt_tokens"], 7);
  EXPECT_EQ(line["completion_tokens"], 5);
  EXPECT_EQ(line["cached_tokens"], 2);
  EXPECT_EQ(line["removed_weight_share"], 0.25);
  EXPECT_FALSE(line.contains("shadow_weight_share"));
  EXPECT_EQ(line["queue_ms"], 1.5);
  EXPECT_EQ(line["duration_ms"], 20.0);
}

TEST(UsageLine, RefusalsSayWhy) {
  CallRecord record = Record();
  record.code = "RESOURCE_EXHAUSTED";
  record.reason = "RATE_LIMITED";
  record.limit = "tokens_per_minute";
  const auto line = nlohmann::json::parse(UsageLine(record, "demo", ""));
  EXPECT_EQ(line["reason"], "RATE_LIMITED");
  EXPECT_EQ(line["limit"], "tokens_per_minute");
}

TEST(UsageLog, AppendsWholeLinesFromAllThreads) {
  const auto path =
      std::filesystem::path(::testing::TempDir()) / fmt::format("monet-usage-{}", getpid());
  std::ofstream(path) << "{\"before\":1}\n";
  {
    auto log = UsageLog::Open(path.string(), "demo");
    ASSERT_TRUE(log.ok()) << Message(log.status());
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 250; ++i) (*log)->Write(Record());
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ((*log)->lost(), 0);
  }
  std::ifstream file(path);
  std::string text;
  int lines = 0;
  while (std::getline(file, text)) {
    EXPECT_EQ(nlohmann::json::parse(text).contains("before"), lines == 0);
    ++lines;
  }
  EXPECT_EQ(lines, 1001);
  EXPECT_FALSE(UsageLog::Open((path / "below-a-file").string(), "demo").ok());
  std::filesystem::remove(path);
}

// Neither folders nor files are made by a look; a start makes the file alone.
TEST(UsageLog, NeedsAFolderThatIsThere) {
  const auto folder =
      std::filesystem::path(::testing::TempDir()) / fmt::format("monet-usage-folder-{}", getpid());
  const std::string path = (folder / "u.jsonl").string();
  for (const absl::Status& status : {CheckUsageLog(path), UsageLog::Open(path, "demo").status()}) {
    EXPECT_EQ(Message(status),
              fmt::format("usage_log: {}: there is no folder {}", path, folder.string()));
  }
  EXPECT_FALSE(std::filesystem::exists(folder));
  std::filesystem::create_directory(folder);
  EXPECT_EQ(Message(CheckUsageLog(folder.string())),
            fmt::format("usage_log: {}: is a folder", folder.string()));
  EXPECT_TRUE(CheckUsageLog(path).ok());
  EXPECT_TRUE(CheckUsageLog("-").ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  EXPECT_TRUE(UsageLog::Open(path, "demo").ok());
  EXPECT_TRUE(CheckUsageLog(path).ok());
  std::filesystem::remove_all(folder);
}

TEST(UsageLog, CountsLinesThatTheDiskDoesNotTake) {
  prometheus::Registry registry;
  UsageMetrics metrics(&registry, {});
  auto log = UsageLog::Open("/dev/full", "demo");
  ASSERT_TRUE(log.ok()) << Message(log.status());
  const Usage usage{&metrics, log->get()};
  for (int i = 0; i < 5; ++i) usage.Record(Record());
  for (int i = 0; i < 1000 && (*log)->lost() < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ((*log)->lost(), 5);
  metrics.SetLostLines((*log)->lost());
  metrics.SetLostLines(3);  // of a thread that was late
  for (const auto& family : registry.Collect()) {
    if (family.name != "monet_usage_log_lost_lines_total") continue;
    EXPECT_EQ(family.metric.at(0).counter.value, 5);
    return;
  }
  FAIL() << "no such metric";
}

double Sample(prometheus::Registry* registry, const std::string& name, const std::string& label,
              const std::string& value) {
  double sum = 0;
  for (const auto& family : registry->Collect()) {
    if (family.name != name) continue;
    for (const auto& metric : family.metric) {
      for (const auto& pair : metric.label) {
        if (pair.name == label && pair.value == value) sum += metric.counter.value;
      }
    }
  }
  return sum;
}

TEST(UsageMetrics, CountsPerTenantAndPolicy) {
  prometheus::Registry registry;
  UsageMetrics metrics(&registry, {{"model_name", "demo"}});
  CallRecord record = Record();
  metrics.Count(record);
  EXPECT_EQ(Sample(&registry, "monet_shadow_routing_weight_total", "tenant", "acme"), 0);
  record.shadow_weight_share = 0.5;
  record.limit = "concurrent";
  record.code = "RESOURCE_EXHAUSTED";
  metrics.Count(record);
  EXPECT_EQ(Sample(&registry, "monet_tenant_requests_total", "tenant", "acme"), 2);
  EXPECT_EQ(Sample(&registry, "monet_tenant_requests_total", "code", "OK"), 1);
  EXPECT_EQ(Sample(&registry, "monet_tenant_prompt_tokens_total", "tenant", "acme"), 14);
  EXPECT_EQ(Sample(&registry, "monet_tenant_generation_tokens_total", "tenant", "acme"), 10);
  EXPECT_EQ(Sample(&registry, "monet_tenant_limited_total", "limit", "concurrent"), 1);
  // Of the second call's 12 tokens.
  EXPECT_EQ(Sample(&registry, "monet_shadow_routing_weight_total", "tenant", "acme"), 6);
  EXPECT_EQ(Sample(&registry, "monet_policy_requests_total", "policy", "no-insults"), 2);
  EXPECT_EQ(Sample(&registry, "monet_policy_prompt_tokens_total", "policy", "no-insults"), 14);
  EXPECT_EQ(Sample(&registry, "monet_policy_generation_tokens_total", "policy", "no-insults"), 10);
}

TEST(UsageMetrics, LabelsHaveACap) {
  prometheus::Registry registry;
  UsageMetrics metrics(&registry, {});
  CallRecord record = Record();
  const size_t tenants = limits::kMaxTenantMetrics + 50;
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < tenants; ++i) {
      record.tenant = fmt::format("t{}", i);
      metrics.Count(record);
    }
  }
  EXPECT_EQ(Sample(&registry, "monet_tenant_requests_total", "tenant", "other"), 100);
  EXPECT_EQ(Sample(&registry, "monet_tenant_requests_total", "tenant", "t0"), 2);
  for (const auto& family : registry.Collect()) {
    EXPECT_LE(family.metric.size(), limits::kMaxTenantMetrics + 1) << family.name;
  }
}

}  // namespace
}  // namespace monet::server
