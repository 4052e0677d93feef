// monetctl health, as a process, against a fake server on a real port.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/fake_server.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

using grpc::health::v1::HealthCheckResponse;
using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using Seconds = std::chrono::duration<double>;

class HealthTest : public testing::Test {
 protected:
  CommandResult Run(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), {"health", "--server", server_.address()});
    CommandOptions options;
    // So that no file of the user who runs the test is read.
    options.environment = {"HOME=" + testing::TempDir() + "no-such-home"};
    return RunMonetctl(arguments, options);
  }

  FakeServer server_;
};

TEST_F(HealthTest, TheExitCodeIsWhetherItServes) {
  const CommandResult serving = Run();
  EXPECT_EQ(serving.exit_code, 0);
  EXPECT_EQ(serving.output, "SERVING\n");
  EXPECT_THAT(serving.errors, IsEmpty());
  for (const auto& [status, name] : {std::pair{HealthCheckResponse::NOT_SERVING, "NOT_SERVING"},
                                     std::pair{HealthCheckResponse::UNKNOWN, "UNKNOWN"},
                                     std::pair{HealthCheckResponse::ServingStatus{77}, "77"}}) {
    server_.health.status = status;
    const CommandResult result = Run();
    EXPECT_EQ(result.exit_code, 1) << name;
    EXPECT_EQ(result.output, std::string(name) + "\n");
    EXPECT_EQ(result.errors,
              "monetctl: UNAVAILABLE: the server at " + server_.address() + " is " + name + "\n");
  }
}

TEST_F(HealthTest, OneServiceMayBeAskedFor) {
  server_.health.status = HealthCheckResponse::NOT_SERVING;
  EXPECT_EQ(Run({"--service", "liveness"}).exit_code, 0);
  EXPECT_EQ(Run({"--service", ""}).exit_code, 1);
  const CommandResult unknown = Run({"--service", "livenes"});
  EXPECT_EQ(unknown.exit_code, 1);
  EXPECT_THAT(unknown.output, IsEmpty());
  EXPECT_THAT(unknown.errors, HasSubstr("NOT_FOUND"));
}

TEST_F(HealthTest, JsonSaysBoth) {
  EXPECT_EQ(json::parse(Run({"--json", "--service", "liveness"}).output),
            (json{{"service", "liveness"}, {"status", "SERVING"}}));
  server_.health.status = HealthCheckResponse::NOT_SERVING;
  const CommandResult result = Run({"--json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(json::parse(result.output), (json{{"service", ""}, {"status", "NOT_SERVING"}}));
}

TEST_F(HealthTest, AServerThatDoesNotAnswerIsNotHealthy) {
  const CommandResult nobody = RunMonetctl({"health", "--server", "127.0.0.1:1"});
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.errors, HasSubstr("UNAVAILABLE"));
  server_.health.silent = true;
  for (const auto& [arguments, seconds] :
       {std::pair{std::vector<std::string>{"--timeout", "0.3"}, 0.3},
        std::pair{std::vector<std::string>{}, 5.0}}) {
    const auto start = std::chrono::steady_clock::now();
    const CommandResult result = Run(arguments);
    const double waited = Seconds(std::chrono::steady_clock::now() - start).count();
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.errors, HasSubstr("DEADLINE_EXCEEDED"));
    EXPECT_GE(waited, seconds * 0.95);
    EXPECT_LT(waited, seconds + 20);  // the machine may be busy
  }
  EXPECT_THAT(Run({"--help"}).output, HasSubstr("Default: 5\n"));
}

TEST_F(HealthTest, ItsConnectionIsThatOfTheOtherCommands) {
  EXPECT_EQ(Run({"--tls"}).exit_code, 1);  // the server speaks none
  const CommandResult bad = Run({"--ca", "/nowhere"});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_THAT(bad.errors, HasSubstr("need --tls"));
  CertificateAuthority authority("authority");
  FakeServer tls(authority);
  const IssuedCertificate client = authority.Issue({.common_name = "client"});
  const CommandResult result =
      RunMonetctl({"health", "--server", tls.address(), "--tls", "--ca",
                   WriteTemporaryFile("ca.pem", authority.pem()), "--cert",
                   WriteTemporaryFile("client.pem", client.certificate), "--cert-key",
                   WriteTemporaryFile("client.key", client.key)});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.output, "SERVING\n");
}

}  // namespace
}  // namespace monet::cli
