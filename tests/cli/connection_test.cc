// Which server monetctl calls, with which key, and over what: as a process, against a fake server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/cli/fake_server.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class ConnectionTest : public testing::Test {
 protected:
  // `monetctl tokenize a` with these arguments; a file of profiles, if any, is private.
  CommandResult Run(std::vector<std::string> arguments, std::vector<std::string> environment = {}) {
    arguments.insert(arguments.begin(), "tokenize");
    arguments.push_back("a");
    CommandOptions options;
    // So that no file of the user who runs the test is read.
    environment.push_back("HOME=" + testing::TempDir() + "no-such-home");
    options.environment = std::move(environment);
    return RunMonetctl(arguments, options);
  }

  std::string Private(const std::string& name, const std::string& content) {
    const std::string path = WriteTemporaryFile(name, content);
    chmod(path.c_str(), 0600);
    return path;
  }

  void ExpectKey(const CommandResult& result, const std::string& key) {
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_EQ(server_.generation.last_authorization(), key.empty() ? "" : "Bearer " + key);
  }

  FakeServer server_;
};

TEST_F(ConnectionTest, TheKeyComesFromTheFirstPlaceThatHasOne) {
  const std::string server = server_.address();
  const std::string file = Private("key", "from-file\n");
  const std::string config =
      Private("config.yaml", "profiles:\n  p: {server: '" + server +
                                 "', key: from-profile}\n  e: {server: '" + server +
                                 "', key_env: LAB}\n  n: {server: '" + server + "'}\n");
  const std::vector<std::string> environment = {"MONET_KEY=from-environment", "LAB=from-lab"};
  ExpectKey(Run({"--server", server}), "");
  ExpectKey(Run({"--server", server}, environment), "from-environment");
  ExpectKey(Run({"--config", config, "--profile", "n"}, environment), "from-environment");
  ExpectKey(Run({"--config", config, "--profile", "p"}, environment), "from-profile");
  ExpectKey(Run({"--config", config, "--profile", "e"}, environment), "from-lab");
  ExpectKey(Run({"--config", config, "--profile", "p", "--key-file", file}), "from-file");
  ExpectKey(Run({"--config", config, "--profile", "p", "--key", "from-flag"}), "from-flag");
  const CommandResult unset = Run({"--config", config, "--profile", "e"});
  EXPECT_EQ(unset.exit_code, 2);
  EXPECT_THAT(unset.errors, HasSubstr("LAB, which is not set"));
}

TEST_F(ConnectionTest, TheServerComesFromTheFirstPlaceThatNamesOne) {
  const std::string dead = "127.0.0.1:1";
  const std::string config =
      Private("config.yaml", "default: d\nprofiles:\n  d: {server: '" + server_.address() +
                                 "', key: of-d}\n  x: {server: '" + dead + "', key: of-x}\n");
  const std::string of_config = "MONETCTL_CONFIG=" + config;
  ExpectKey(Run({}, {of_config}), "of-d");
  ExpectKey(Run({"--config", config}), "of-d");
  // A named server does not get the default profile's key.
  ExpectKey(Run({"--server", server_.address()}, {of_config}), "");
  ExpectKey(Run({}, {of_config, "MONET_SERVER=" + server_.address()}), "");
  // A named profile wins over the environment, a flag over the profile.
  ExpectKey(Run({"--profile", "d"}, {of_config, "MONET_SERVER=" + dead}), "of-d");
  ExpectKey(Run({"--profile", "x", "--server", server_.address()}, {of_config}), "of-x");
  EXPECT_EQ(Run({"--profile", "x"}, {of_config}).exit_code, 1);
}

TEST_F(ConnectionTest, BadProfilesAreLocalErrors) {
  const std::string config = Private("config.yaml", "profiles: {a: {server: x, sever: y}}");
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--config", config},
        {"--config", config, "--server", "x:1"},
        {"--config", "/no/such/file"},
        {"--profile", "a"},
        {"--config", config, "--profile", "b"},
        {"--server", "x:1", "--key", ""},
        {"--server", "x:1", "--key", "a b"},
        {"--server", "x:1", "--key", "a", "--key-file", config},
        {"--server", "x:1", "--ca", config},
        {"--server", "x:1", "--tls", "--ca", config},
        {"--server", "x:1", "--tls", "--cert", config}}) {
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments) << result.errors;
    EXPECT_EQ(result.output, "");
  }
}

TEST_F(ConnectionTest, AKeyDoesNotCrossANetworkUnencrypted) {
  // An address that nobody answers at.
  const std::vector<std::string> remote = {"--server", "192.0.2.1:1", "--key",
                                           "hush",     "--timeout",   "0.2"};
  const CommandResult refused = Run(remote);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.errors, HasSubstr("not sent unencrypted to 192.0.2.1:1"));
  EXPECT_THAT(refused.errors, Not(HasSubstr("hush")));
  for (const char* permission : {"--insecure", "--tls"}) {
    std::vector<std::string> arguments = remote;
    arguments.push_back(permission);
    EXPECT_EQ(Run(arguments).exit_code, 1) << permission;
  }
}

TEST_F(ConnectionTest, TlsChecksBothSides) {
  const CertificateAuthority authority("test authority");
  const IssuedCertificate client = authority.Issue({.common_name = "client"});
  const std::string ca = Private("ca.pem", authority.pem());
  const std::string cert = Private("cert.pem", client.certificate);
  const std::string cert_key = Private("cert.key", client.key);
  FakeServer tls(authority);
  const std::vector<std::string> anonymous = {"--server", tls.address(), "--tls",   "--ca",
                                              ca,         "--key",       "over-tls"};
  std::vector<std::string> known = anonymous;
  known.insert(known.end(), {"--cert", cert, "--cert-key", cert_key});
  const CommandResult result = Run(known);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(tls.generation.last_authorization(), "Bearer over-tls");
  const CommandResult refused = Run(anonymous);
  EXPECT_THAT(refused.errors, testing::MatchesRegex("monetctl: UNAVAILABLE: [^\n]+\n"));
  EXPECT_EQ(refused.exit_code, 1);                           // no certificate
  EXPECT_EQ(Run({"--server", tls.address()}).exit_code, 1);  // no TLS
  EXPECT_EQ(
      Run({"--server", tls.address(), "--tls", "--cert", cert, "--cert-key", cert_key}).exit_code,
      1);  // unknown authority
  const std::string config =
      Private("config.yaml", "default: d\nprofiles:\n  d: {server: '" + tls.address() +
                                 "', tls: true, ca: '" + ca + "', cert: '" + cert +
                                 "', cert_key: '" + cert_key + "'}\n");
  EXPECT_EQ(Run({"--config", config}).exit_code, 0);
}

}  // namespace
}  // namespace monet::cli
