#include "server/policy_reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/policy/policy_writer.h"

namespace monet::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ModelDigest;
using ::testing::Not;
using testing::PolicyText;
using testing::TemporaryFolder;

constexpr MaskShape kShape{2, 3};

class PolicyReloadTest : public ::testing::Test {
 protected:
  PolicyReloadTest() {
    Write("1", 4);
    Write("2", 5);
    registry_.Swap(*PolicySnapshot::Load(folder_.path(), ModelDigest(1), kShape));
    metrics_.SetPolicies(*registry_.Current());
  }

  void Write(const std::string& version, int expert) {
    PolicyText text;
    text.version = version;
    text.experts = fmt::format("{{inline: [{{router: 0, ids: [{}]}}]}}", expert);
    folder_.Write("no-test/" + version + ".yaml", text.Text());
  }
  ReloadOutcome Reloaded() {
    const auto outcome = reload_.Run(ReloadTrigger::kRequest);
    EXPECT_TRUE(outcome.ok()) << Message(outcome.status());
    return outcome.ok() ? *outcome : ReloadOutcome();
  }
  std::string Error() {
    const auto outcome = reload_.Run(ReloadTrigger::kRequest);
    return outcome.ok() ? "no error" : Message(outcome.status());
  }
  std::string MetricsPage() {
    if (metrics_.port() == 0 && !metrics_.Listen("127.0.0.1:0").ok()) return "";
    httplib::Client client("127.0.0.1", metrics_.port());
    const auto response = client.Get("/metrics");
    return response ? response->body : "";
  }
  bool Knows(const char* reference) const { return registry_.Current()->Find(reference).ok(); }

  TemporaryFolder folder_;
  Metrics metrics_{"test"};
  PolicyRegistry registry_{PolicySnapshot::Empty(ModelDigest(1), kShape)};
  PolicyReload reload_{folder_.path(), &registry_, &metrics_};
};

TEST_F(PolicyReloadTest, TakesTheDirectoryOverAsAWhole) {
  const auto pinned = registry_.Current();
  ReloadOutcome outcome = Reloaded();
  EXPECT_FALSE(outcome.changed);
  EXPECT_EQ(outcome.summary, "2 policies");
  Write("3", 6);
  std::filesystem::remove(folder_.path() / "no-test/1.yaml");
  outcome = Reloaded();
  EXPECT_TRUE(outcome.changed);
  EXPECT_EQ(outcome.summary, "2 policies; added no-test@3, removed no-test@1");
  EXPECT_TRUE(Knows("no-test@3"));
  EXPECT_FALSE(Knows("no-test@1"));
  // A request that holds the old snapshot does not see it change.
  EXPECT_TRUE(pinned->Find("no-test@1").ok());
  EXPECT_FALSE(pinned->Find("no-test@3").ok());
}

TEST_F(PolicyReloadTest, KeepsTheLastGood) {
  Write("3", 6);
  folder_.Write("broken/1.yaml", "format: 1\nformat: 1\n");
  EXPECT_THAT(Error(), HasSubstr("broken/1.yaml"));
  EXPECT_FALSE(Knows("no-test@3"));  // nor any part of it
  EXPECT_TRUE(Knows("no-test@2"));
  std::filesystem::remove_all(folder_.path() / "broken");
  Write("2", 7);
  EXPECT_THAT(Error(), HasSubstr("no-test/2.yaml: the content of a version has changed"));
  EXPECT_FALSE(Knows("no-test@3"));
  const std::filesystem::path moved = folder_.path().string() + "-moved";
  std::filesystem::rename(folder_.path(), moved);
  EXPECT_THAT(Error(), HasSubstr("not a directory"));
  std::filesystem::rename(moved, folder_.path());
  EXPECT_TRUE(Knows("no-test@2"));
  Write("2", 5);
  EXPECT_TRUE(Reloaded().changed);
  EXPECT_TRUE(Knows("no-test@3"));
}

// As the kubelet does it: the files lie in a hidden folder, and one rename of the link ..data
// changes all of them.
TEST(PolicyReloadOfAConfigMapTest, FollowsTheSwappedLink) {
  TemporaryFolder folder;
  const std::filesystem::path mount = folder.path() / "no-test";
  const auto publish = [&](const std::string& generation, const std::vector<int>& versions) {
    for (const int version : versions) {
      PolicyText text;
      text.version = std::to_string(version);
      text.experts = fmt::format("{{inline: [{{router: 0, ids: [{}]}}]}}", version);
      folder.Write("no-test/.." + generation + "/" + text.version + ".yaml", text.Text());
    }
    std::filesystem::create_directory_symlink(".." + generation, mount / "..data_tmp");
    std::filesystem::rename(mount / "..data_tmp", mount / "..data");
    for (const auto& entry : std::filesystem::directory_iterator(mount)) {
      const std::string name = entry.path().filename().string();
      if (!name.starts_with('.')) std::filesystem::remove(entry.path());
    }
    for (const int version : versions) {
      const std::string file = std::to_string(version) + ".yaml";
      std::filesystem::create_symlink("..data/" + file, mount / file);
    }
  };
  publish("one", {1, 2});
  Metrics metrics("test");
  PolicyRegistry registry(*PolicySnapshot::Load(folder.path(), ModelDigest(1), kShape));
  PolicyReload reload(folder.path(), &registry, &metrics);
  const auto pinned = registry.Current();
  publish("two", {2, 3});
  const auto outcome = reload.Run(ReloadTrigger::kWatch);
  ASSERT_TRUE(outcome.ok()) << Message(outcome.status());
  EXPECT_EQ(outcome->summary, "2 policies; added no-test@3, removed no-test@1");
  EXPECT_TRUE(pinned->Find("no-test@1").ok());
  EXPECT_FALSE(registry.Current()->Find("no-test@1").ok());
  // Gone, and back with its content only.
  PolicyText text;
  text.experts = "{inline: [{router: 1, ids: [1]}]}";
  folder.Write("no-test/1.yaml", text.Text());
  EXPECT_THAT(Message(reload.Run(ReloadTrigger::kWatch).status()),
              HasSubstr("no-test/1.yaml: the content of a version has changed"));
  EXPECT_TRUE(registry.Current()->Find("no-test@3").ok());
}

TEST_F(PolicyReloadTest, MetricsFollow) {
  EXPECT_THAT(MetricsPage(), AllOf(HasSubstr("version=\"1\""), HasSubstr("version=\"2\""),
                                   Not(HasSubstr("version=\"3\""))));
  folder_.Write("broken/1.yaml", "format: 1\n");
  Error();
  Error();
  std::filesystem::remove_all(folder_.path() / "broken");
  Write("3", 6);
  std::filesystem::remove(folder_.path() / "no-test/1.yaml");
  Reloaded();
  EXPECT_THAT(MetricsPage(),
              HasSubstr("monet_policy_reload_failures_total{model_name=\"test\"} 2\n"));
  EXPECT_THAT(MetricsPage(), AllOf(Not(HasSubstr("version=\"1\"")), HasSubstr("version=\"2\""),
                                   HasSubstr("version=\"3\"")));
}

}  // namespace
}  // namespace monet::server
