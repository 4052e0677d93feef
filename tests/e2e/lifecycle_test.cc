// Start, drain and end of the process: what it refuses to start with, and that no token is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// A bad start is exit code 2 and one line on stderr.
void ExpectBadStart(const std::vector<std::string>& args, const std::string& message) {
  const Exit exit = RunServer(args);
  EXPECT_EQ(exit.code, 2) << exit.err;
  EXPECT_THAT(exit.err, HasSubstr(message));
  EXPECT_EQ(std::count(exit.err.begin(), exit.err.end(), '\n'), 1) << exit.err;
}

class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& name)
      : path_(std::filesystem::path(::testing::TempDir()) / ("monet-" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string str() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

TEST(Start, AnswersWithinFiveSeconds) {
  const auto start = std::chrono::steady_clock::now();
  ServerProcess server(ServerProcess::DemoArgs());
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  v1::GenerateResponse response;
  ASSERT_TRUE(client.Generate(Greedy("x", 1), &response).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  server.Signal(SIGINT);
  const Exit exit = server.Wait();
  EXPECT_EQ(exit.code, 0) << exit.err;
  EXPECT_THAT(exit.out, HasSubstr("--policy no-python"));
  EXPECT_THAT(exit.out, HasSubstr("policies    12"));
}

TEST(Start, BusyPortsAreErrors) {
  ServerProcess& first = SharedServer();
  ExpectBadStart({"--model", MONET_SOURCE_DIR "/models/demo", "--listen", first.grpc_address()},
                 "--listen " + first.grpc_address() + ": cannot listen there");
  ExpectBadStart(ServerProcess::DemoArgs({"--metrics-listen", first.metrics_address()}),
                 "--metrics-listen " + first.metrics_address() + ": cannot listen there");
}

TEST(Start, RefusesBadModelsAndPolicies) {
  const TemporaryDirectory directory("bad-start");
  ExpectBadStart({"--model", "/nonexistent", "--listen", "127.0.0.1:0"}, "/nonexistent");
  ExpectBadStart({"--model", directory.str(), "--listen", "127.0.0.1:0"}, "config.json");
  const std::string model = directory / "model";
  std::filesystem::copy(MONET_SOURCE_DIR "/models/demo", model);
  std::filesystem::resize_file(model + "/model.safetensors", 100000);
  ExpectBadStart({"--model", model, "--listen", "127.0.0.1:0"}, "safetensors");
  std::filesystem::create_directories(directory / "policies/broken");
  std::ofstream(directory / "policies/broken/1.yaml") << "format: 1\nformat: 1\n";
  ExpectBadStart({"--model", MONET_SOURCE_DIR "/models/demo", "--policies", directory / "policies",
                  "--listen", "127.0.0.1:0"},
                 "broken/1.yaml");
  ExpectBadStart({"--model", MONET_SOURCE_DIR "/models/demo", "--policies", "/nonexistent",
                  "--listen", "127.0.0.1:0"},
                 "--policies /nonexistent");
}

// Names of files are other people's: none reaches the operator's terminal as a control sequence.
TEST(Start, ShowsControlCharactersAsQuestionMarks) {
  const TemporaryDirectory directory("control");
  std::filesystem::create_directories(directory / "policies/a\x1b[31m\nb");
  ExpectBadStart({"--model", MONET_SOURCE_DIR "/models/demo", "--policies", directory / "policies",
                  "--listen", "127.0.0.1:0"},
                 "a?[31m?b: not a folder");
}

TEST(Start, RefusesBadSettings) {
  const TemporaryDirectory directory("bad-settings");
  std::ofstream(directory / "server.yaml") << "model: x\nqueue: 5\n";
  ExpectBadStart({"--config", directory / "server.yaml"}, "queue (line 2): unknown key");
  ExpectBadStart({"--model", MONET_SOURCE_DIR "/models/demo", "--listen", "0.0.0.0:0"},
                 "--allow-anonymous");
  ExpectBadStart(ServerProcess::DemoArgs({"--kv-tokens", "100"}), "kv_tokens is 100");
}

std::vector<std::string> CheckArgs(std::vector<std::string> args) {
  args.push_back("--check");
  return args;
}

TEST(Check, SummarisesAndListensNowhere) {
  // Both ports are taken, which a start refuses and a check does not see.
  ServerProcess& first = SharedServer();
  const Exit exit = RunServer(CheckArgs(
      {"--model", MONET_SOURCE_DIR "/models/demo", "--policies", MONET_SOURCE_DIR "/policies",
       "--listen", first.grpc_address(), "--metrics-listen", first.metrics_address()}));
  EXPECT_EQ(exit.code, 0) << exit.err;
  EXPECT_EQ(exit.err, "");
  EXPECT_THAT(exit.out, HasSubstr("fingerprint sha256:"));
  EXPECT_THAT(exit.out, HasSubstr("policies    12\n"));
  EXPECT_THAT(exit.out, HasSubstr("    no-python@1  3061 experts removed\n"));
  EXPECT_THAT(exit.out, EndsWith("\nok\n"));
  EXPECT_THAT(exit.out, Not(HasSubstr("ready")));
}

// What a start refuses, with the same words.
TEST(Check, RefusesWhatAStartRefuses) {
  const TemporaryDirectory directory("check");
  std::ofstream(directory / "server.yaml") << "model: x\nqueue: 5\n";
  ExpectBadStart({"--check", "--config", directory / "server.yaml"}, "queue (line 2): unknown key");
  ExpectBadStart(CheckArgs({"--model", directory.str()}), "config.json");
  ExpectBadStart(CheckArgs(ServerProcess::DemoArgs({"--kv-tokens", "100"})), "kv_tokens is 100");
  const std::string log = directory / "nodir/u.jsonl";
  const std::string no_folder = "usage_log: " + log + ": there is no folder ";
  ExpectBadStart(ServerProcess::DemoArgs({"--usage-log", log}), no_folder);
  ExpectBadStart(CheckArgs(ServerProcess::DemoArgs({"--usage-log", log})), no_folder);
  EXPECT_FALSE(std::filesystem::exists(directory / "nodir"));
  std::filesystem::create_directories(directory / "policies/broken");
  std::ofstream(directory / "policies/broken/1.yaml") << "format: 1\nformat: 1\n";
  ExpectBadStart(
      CheckArgs({"--model", MONET_SOURCE_DIR "/models/demo", "--policies", directory / "policies"}),
      "broken/1.yaml");
}

// Long output, a drain meanwhile: every token arrives, health says so, new calls are turned away.
TEST(Drain, FinishesTheRunningStream) {
  ServerProcess server(ServerProcess::DemoArgs());
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  grpc::ClientContext watch_context;
  const auto watch = client.health().Watch(&watch_context, HealthCheckRequest());
  HealthCheckResponse health;
  ASSERT_TRUE(watch->Read(&health));
  EXPECT_EQ(health.status(), HealthCheckResponse::SERVING);

  OpenStream stream(&client, Greedy("def get_queryset(self):\n    ", kManyTokens));
  ASSERT_TRUE(stream.ReadFirstToken());
  server.Signal(SIGTERM);
  ASSERT_TRUE(watch->Read(&health));
  EXPECT_EQ(health.status(), HealthCheckResponse::NOT_SERVING);
  v1::GenerateResponse response;
  EXPECT_EQ(client.Generate(Greedy("x", 1), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::Finish finish;
  const grpc::Status status = stream.ReadAll(&finish);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(finish.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(stream.tokens(), kManyTokens);
  const Exit exit = server.Wait();
  EXPECT_EQ(exit.code, 0) << exit.err;
}

TEST(Drain, TimeoutEndsTheRestAndExitsZero) {
  ServerProcess server(ServerProcess::DemoArgs({"--drain-timeout", "0"}));
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  OpenStream stream(&client, Greedy("def get_queryset(self):\n    ", kManyTokens));
  ASSERT_TRUE(stream.ReadFirstToken());
  server.Signal(SIGTERM);
  v1::Finish finish;
  EXPECT_EQ(stream.ReadAll(&finish).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_LT(stream.tokens(), kManyTokens);
  EXPECT_EQ(server.Wait().code, 0);
}

TEST(Drain, SecondSignalEndsAtOnce) {
  ServerProcess server(ServerProcess::DemoArgs({"--threads", "1"}));
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  OpenStream stream(&client, Greedy("def get_queryset(self):\n    ", kManyTokens));
  ASSERT_TRUE(stream.ReadFirstToken());
  server.Signal(SIGTERM);
  HealthCheckResponse::ServingStatus status = HealthCheckResponse::UNKNOWN;
  ASSERT_TRUE(Eventually([&] {
    return client.Check("", &status).ok() && status == HealthCheckResponse::NOT_SERVING;
  }));
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait().code, 128 + SIGTERM);
}

}  // namespace
}  // namespace monet::e2e
