#include "server/options.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "server/settings.h"

namespace monet::server {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<CommandLine> Parse(std::vector<const char*> args) {
  args.insert(args.begin(), "monet-server");
  return ParseCommandLine(static_cast<int>(args.size()), args.data());
}

std::string ErrorOf(std::vector<const char*> args) {
  const auto command = Parse(std::move(args));
  return command.ok() ? "no error" : Message(command.status());
}

std::string YamlError(const char* yaml) {
  ServerOptions options;
  const absl::Status status = ApplyYaml(yaml, &options);
  return status.ok() ? "no error" : Message(status);
}

TEST(CommandLine, HasDefaults) {
  const auto command = Parse({"--model", "m"});
  ASSERT_TRUE(command.ok()) << Message(command.status());
  EXPECT_EQ(command->options.listen, "127.0.0.1:50051");
  EXPECT_EQ(command->options.metrics_listen, "127.0.0.1:0");
  EXPECT_EQ(command->options.policies, "");
  EXPECT_EQ(command->options.drain_timeout, std::chrono::seconds(30));
}

TEST(CommandLine, HelpNamesEverySettingAndItsUnit) {
  const auto command = Parse({"--help"});
  ASSERT_TRUE(command.ok());
  EXPECT_EQ(command->action, CommandLine::Action::kPrintAndExit);
  for (const Setting& setting : Settings()) {
    EXPECT_THAT(command->text, HasSubstr(FlagOf(setting) + " " + setting.placeholder));
  }
  for (const char* text :
       {"--config", "--check", "--version", "milliseconds", "seconds", "Exit codes"}) {
    EXPECT_THAT(command->text, HasSubstr(text));
  }
}

TEST(CommandLine, CompatibilityNamesEverySetting) {
  std::ifstream file(MONET_SOURCE_DIR "/docs/compatibility.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const Setting& setting : Settings()) {
    EXPECT_THAT(text, HasSubstr(fmt::format("`{}`", setting.key)));
  }
}

TEST(CommandLine, VersionIsTheOneOfTheVersionFile) {
  std::ifstream file(MONET_SOURCE_DIR "/VERSION");
  std::string version;
  ASSERT_TRUE(std::getline(file, version));
  const auto command = Parse({"--version"});
  ASSERT_TRUE(command.ok());
  EXPECT_EQ(command->text, "monet-server " + version + "\n");
}

TEST(CommandLine, SetsEverySetting) {
  const auto command = Parse({"--model",
                              "m",
                              "--policies",
                              "p",
                              "--listen",
                              "[::1]:0",
                              "--metrics-listen",
                              "127.0.0.1:9",
                              "--model-name",
                              "n",
                              "--threads",
                              "3",
                              "--kv-tokens",
                              "4096",
                              "--max-running",
                              "4",
                              "--max-queue",
                              "5",
                              "--mask-slots",
                              "6",
                              "--max-step-tokens",
                              "7",
                              "--step-target-ms",
                              "8",
                              "--drain-timeout",
                              "9",
                              "--log-level",
                              "warn",
                              "--stall-timeout",
                              "10",
                              "--allow-anonymous",
                              "--tls-cert",
                              "c",
                              "--tls-key",
                              "k",
                              "--tls-client-ca",
                              "a",
                              "--tls-client-auth",
                              "optional",
                              "--health-listen",
                              "[::]:1",
                              "--reload-interval",
                              "0"});
  ASSERT_TRUE(command.ok()) << Message(command.status());
  const ServerOptions& o = command->options;
  EXPECT_EQ(o.model, "m");
  EXPECT_EQ(o.policies, "p");
  EXPECT_EQ(o.listen, "[::1]:0");
  EXPECT_EQ(o.metrics_listen, "127.0.0.1:9");
  EXPECT_EQ(o.model_name, "n");
  EXPECT_EQ(o.threads, 3);
  EXPECT_EQ(o.kv_tokens, 4096);
  EXPECT_EQ(o.max_running, 4);
  EXPECT_EQ(o.max_queue, 5);
  EXPECT_EQ(o.mask_slots, 6);
  EXPECT_EQ(o.max_step_tokens, 7);
  EXPECT_EQ(o.step_target.count(), 8);
  EXPECT_EQ(o.drain_timeout, std::chrono::seconds(9));
  EXPECT_EQ(o.stall_timeout, std::chrono::seconds(10));
  EXPECT_EQ(o.log_level, "warn");
  EXPECT_TRUE(o.allow_anonymous);
  EXPECT_EQ(o.tls_cert, "c");
  EXPECT_EQ(o.tls_key, "k");
  EXPECT_EQ(o.tls_client_ca, "a");
  EXPECT_EQ(o.tls_client_auth, "optional");
  EXPECT_EQ(o.health_listen, "[::]:1");
  EXPECT_EQ(o.reload_interval, std::chrono::seconds(0));
}

TEST(CommandLine, TlsSettingsBelongTogether) {
  EXPECT_THAT(ErrorOf({"--model", "m", "--tls-cert", "c"}), HasSubstr("tls_key is missing"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--tls-key", "k"}), HasSubstr("tls_cert is missing"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--tls-client-ca", "a"}), HasSubstr("needs tls_cert"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--tls-cert", "c", "--tls-key", "k", "--tls-client-auth",
                       "optional"}),
              HasSubstr("needs tls_client_ca"));
  // Certificates alone let in whoever the authority knows: that is not a decision to serve them.
  EXPECT_THAT(ErrorOf({"--model", "m", "--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a",
                       "--listen", "0.0.0.0:1"}),
              HasSubstr("--allow-anonymous"));
}

TEST(CommandLine, RefusesBadValues) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("--model DIR is required"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--bogus"}), HasSubstr("--bogus"));
  EXPECT_THAT(ErrorOf({"--model", "m", "extra"}), HasSubstr("extra"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--model", "n"}), HasSubstr("--model"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--threads", "0"}),
              HasSubstr("--threads must be an integer from 1 to 1024, is \"0\""));
  EXPECT_THAT(ErrorOf({"--model", "m", "--threads", "-1"}), HasSubstr("threads"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--threads", "2x"}), HasSubstr("2x"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--kv-tokens", "99999999999"}),
              HasSubstr("--kv-tokens must be"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--log-level", "loud"}), HasSubstr("debug, info, warn"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--listen", "nowhere"}), HasSubstr("HOST:PORT"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--listen", "127.0.0.1:65536"}), HasSubstr("0 to 65535"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--max-running", "65"}), HasSubstr("max_step_tokens is 64"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--config", "/nonexistent"}), HasSubstr("/nonexistent"));
}

TEST(CommandLine, SaysThatMetricsHaveNoIpv6) {
  EXPECT_THAT(ErrorOf({"--model", "m", "--metrics-listen", "[::1]:0"}), HasSubstr("without IPv6"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--metrics-listen", "unix:/s"}), HasSubstr("HOST:PORT"));
}

TEST(CommandLine, FailsClosedOffLoopback) {
  EXPECT_THAT(ErrorOf({"--model", "m", "--listen", "0.0.0.0:1"}), HasSubstr("--allow-anonymous"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--listen", "[::]:1"}), HasSubstr("--allow-anonymous"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--listen", "localhost.evil.com:1"}),
              HasSubstr("--allow-anonymous"));
  EXPECT_THAT(ErrorOf({"--model", "m", "--listen", "127.evil.com:1"}),
              HasSubstr("--allow-anonymous"));
  for (const char* address : {"localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "unix:/s"}) {
    EXPECT_TRUE(Parse({"--model", "m", "--listen", address}).ok()) << address;
  }
  EXPECT_TRUE(Parse({"--model", "m", "--listen", "0.0.0.0:1", "--allow-anonymous"}).ok());
}

TEST(CommandLine, ChecksOnRequest) {
  const auto command = Parse({"--check", "--model", "m"});
  ASSERT_TRUE(command.ok()) << Message(command.status());
  EXPECT_EQ(command->action, CommandLine::Action::kCheck);
  EXPECT_EQ(Parse({"--model", "m"})->action, CommandLine::Action::kServe);
  EXPECT_THAT(ErrorOf({"--check"}), HasSubstr("--model DIR is required"));
  // A command, not a setting: no file may turn a server into a check.
  EXPECT_THAT(YamlError("check: true\n"), HasSubstr("check (line 1): unknown key"));
}

TEST(ConfigFile, IsUnderTheFlags) {
  const std::string path = ::testing::TempDir() + "monet-options.yaml";
  std::ofstream(path) << "model: from-file\nthreads: 2\nallow_anonymous: true\n";
  const auto command = Parse({"--config", path.c_str(), "--threads", "1"});
  ASSERT_TRUE(command.ok()) << Message(command.status());
  EXPECT_EQ(command->options.model, "from-file");
  EXPECT_EQ(command->options.threads, 1);
  EXPECT_TRUE(command->options.allow_anonymous);
}

TEST(ConfigFile, IsStrict) {
  EXPECT_THAT(YamlError("model: m\nthread: 2\n"), HasSubstr("thread (line 2): unknown key"));
  EXPECT_THAT(YamlError("threads: 1\nmodel: m\nthreads: 2\n"),
              HasSubstr("line 3: duplicate key threads"));
  EXPECT_THAT(YamlError("threads: [1]\n"), HasSubstr("threads (line 1): must be an integer"));
  EXPECT_THAT(YamlError("threads:\n"), HasSubstr("threads (line 1): must be an integer"));
  EXPECT_THAT(YamlError("\nthreads: many\n"), HasSubstr("threads (line 2): must be an integer"));
  EXPECT_THAT(YamlError("threads: 1025\n"), HasSubstr("from 1 to 1024"));
  EXPECT_THAT(YamlError("threads: \"2\"\n"), HasSubstr("must be an integer"));
  EXPECT_THAT(YamlError("threads: 0x2\n"), HasSubstr("must be an integer"));
  EXPECT_THAT(YamlError("model_name: 7\n"), HasSubstr("must be a string (quote it)"));
  EXPECT_THAT(YamlError("model_name: [m]\n"), HasSubstr("must be a string"));
  EXPECT_THAT(YamlError("model:\n"), HasSubstr("model (line 1): must be a string"));
  EXPECT_THAT(YamlError("model: ''\n"), HasSubstr("model (line 1): is empty"));
  EXPECT_THAT(YamlError("- a\n"), HasSubstr("is no map"));
  EXPECT_THAT(YamlError("? [a]\n: b\n"), HasSubstr("line 1"));
  EXPECT_THAT(YamlError("a: b: c\n"), HasSubstr("line 1"));
  EXPECT_THAT(YamlError("model: m\n---\nmodel: n\n"), HasSubstr("a second document"));
  EXPECT_THAT(YamlError("allow_anonymous: yes\n"), HasSubstr("must be true or false"));
  EXPECT_THAT(YamlError("<<: {model: m}\n"), HasSubstr("merge keys are not supported"));
  EXPECT_THAT(YamlError("model: &a m\nmodel_name: *a\n"), HasSubstr("anchors are not supported"));
  EXPECT_THAT(YamlError("model: !!str m\n"), HasSubstr("tags are not supported"));
}

TEST(ConfigFile, IsRefusedWhenEmpty) {
  EXPECT_THAT(YamlError(""), HasSubstr("line 1"));
  EXPECT_THAT(YamlError("# nothing\n"), HasSubstr("line 1"));
  EXPECT_EQ(YamlError("{}\n"), "no error");
}

// Every row of the table: both ends of its range are accepted, from the file and from the command
// line alike, and one beyond each is refused.
TEST(Settings, IntegersHoldTheirRange) {
  for (const Setting& setting : Settings()) {
    if (setting.kind != Setting::Kind::kInteger) continue;
    for (const int64_t value : {setting.min - 1, setting.min, setting.max, setting.max + 1}) {
      const bool inside = value >= setting.min && value <= setting.max;
      ServerOptions from_flag;
      EXPECT_EQ(setting.set(&from_flag, std::to_string(value)).ok(), inside) << setting.key;
      const std::string error = YamlError(fmt::format("{}: {}\n", setting.key, value).c_str());
      EXPECT_EQ(error == "no error", inside) << setting.key << ": " << error;
    }
    EXPECT_FALSE(setting.default_text.empty()) << setting.key;
  }
}

TEST(Settings, TextsAreBounded) {
  for (const Setting& setting : Settings()) {
    if (setting.kind != Setting::Kind::kText) continue;
    ServerOptions options;
    EXPECT_FALSE(setting.set(&options, "").ok()) << setting.key;
    EXPECT_FALSE(setting.set(&options, std::string(4097, 'a')).ok()) << setting.key;
  }
  ServerOptions options;
  EXPECT_TRUE(Settings()[0].set(&options, std::string(4096, 'a')).ok());
}

}  // namespace
}  // namespace monet::server
