#include "cli/profiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <string>

#include "cli/connection.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

using testing::HasSubstr;

TEST(Profiles, AreReadWithPathsInTheirFolder) {
  const auto profiles = ParseProfiles(R"(
default: prod
profiles:
  local: {server: "127.0.0.1:50051"}
  prod:
    server: monet.example.com:443
    tls: true
    ca: ca.pem
    cert: /etc/me.pem
    cert_key: keys/me.key
    key_file: prod.key
  lab: {server: "10.0.0.5:1", insecure: true, key_env: LAB_KEY}
)",
                                      "/home/me");
  ASSERT_TRUE(profiles.ok()) << profiles.status();
  EXPECT_EQ(profiles->default_profile, "prod");
  const Profile& prod = profiles->by_name.at("prod");
  EXPECT_EQ(prod.server, "monet.example.com:443");
  EXPECT_TRUE(prod.tls);
  EXPECT_FALSE(prod.insecure);
  EXPECT_EQ(prod.ca, "/home/me/ca.pem");
  EXPECT_EQ(prod.cert, "/etc/me.pem");
  EXPECT_EQ(prod.cert_key, "/home/me/keys/me.key");
  EXPECT_EQ(prod.key_file, "/home/me/prod.key");
  EXPECT_EQ(profiles->by_name.at("lab").key_env, "LAB_KEY");
  EXPECT_TRUE(profiles->by_name.at("lab").insecure);
  EXPECT_EQ(profiles->by_name.size(), 3u);
}

TEST(Profiles, TheDocumentedFileIsOne) {
  std::ifstream file(MONET_SOURCE_DIR "/docs/clients.md");
  const std::string page((std::istreambuf_iterator<char>(file)), {});
  const size_t start = page.find("```yaml\n");
  ASSERT_NE(start, page.npos);
  const size_t end = page.find("```", start + 8);
  const auto profiles = ParseProfiles(page.substr(start + 8, end - start - 8), "/home/me");
  ASSERT_TRUE(profiles.ok()) << profiles.status();
  EXPECT_EQ(profiles->by_name.at("prod").key_file, "/home/me/prod.key");
}

TEST(Profiles, AnythingElseIsRefusedWithItsPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "profiles"},
      {"profiles: [a]", "profiles"},
      {"profiles: {a: {}}", "profiles.a"},
      {"profiles: {a: {server: ''}}", "profiles.a.server"},
      {"profiles: {a: {server: x, sever: y}}", "sever"},
      {"profiles: {a: {server: x}, a: {server: y}}", "a"},
      {"profiles: {a: {server: x, tls: yes}}", "profiles.a.tls"},
      {"profiles: {a: {server: x, key: k, key_env: K}}", "more than one of key"},
      {"profiles: {a: {server: x}}\ndefault: b", "default"},
      {"profiles: {a: {server: x}}\nother: b", "other"},
  };
  for (const auto& [yaml, what] : cases) {
    const auto profiles = ParseProfiles(yaml, "");
    ASSERT_FALSE(profiles.ok()) << yaml;
    EXPECT_THAT(Message(profiles.status()), HasSubstr(what)) << yaml;
  }
}

TEST(Profiles, AFileWithAKeyIsNobodyElses) {
  const std::string with_key =
      WriteTemporaryFile("key.yaml", "profiles: {a: {server: x, key: secret-1}}");
  chmod(with_key.c_str(), 0644);
  const auto refused = ReadProfiles(with_key);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(Message(refused.status()), HasSubstr("chmod 600"));
  EXPECT_THAT(Message(refused.status()), testing::Not(HasSubstr("secret-1")));
  chmod(with_key.c_str(), 0640);
  EXPECT_TRUE(ReadProfiles(with_key).ok());
  const std::string without =
      WriteTemporaryFile("plain.yaml", "profiles: {a: {server: x, key_file: k}}");
  chmod(without.c_str(), 0644);
  EXPECT_TRUE(ReadProfiles(without).ok());

  const std::string key = WriteTemporaryFile("key", "secret-2 \r\n");
  chmod(key.c_str(), 0604);
  EXPECT_THAT(Message(ReadKeyFile(key).status()), HasSubstr("chmod 600"));
  chmod(key.c_str(), 0600);
  EXPECT_EQ(*ReadKeyFile(key), "secret-2");
}

TEST(Local, IsWhatCannotLeaveTheMachine) {
  for (const char* address : {"127.0.0.1:50051", "127.1.2.3:1", "127.0.0.1", "localhost:1",
                              "localhost", "[::1]:50051", "[::1]", "unix:/tmp/s"}) {
    EXPECT_TRUE(IsLocal(address)) << address;
  }
  for (const char* address :
       {"127.example.com:50051", "127.0.0.1.example.com:1", "localhost.example.com:1", "10.0.0.1:1",
        "[::2]:1", "[::1].example.com:1", "ipv4:127.0.0.1:1,8.8.8.8:1", "0.0.0.0:1", "", ":1",
        "dns://8.8.8.8/localhost:1", "1270.0.0.1:1"}) {
    EXPECT_FALSE(IsLocal(address)) << address;
  }
}

}  // namespace
}  // namespace monet::cli
