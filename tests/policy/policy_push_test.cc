#include "runtime/policy/policy_push.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <string>
#include <thread>

#include "runtime/policy/registry.h"
#include "tests/policy/policy_writer.h"

namespace monet {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ModelDigest;
using testing::PolicyText;
using testing::TemporaryFolder;

constexpr MaskShape kShape{2, 64};  // 1 KiB a mask

// A policy whose content follows from its version.
PolicyFile Make(int version, uint8_t model = 1, int content = 0) {
  std::mt19937 random(static_cast<uint32_t>(content == 0 ? version : content));
  const auto bitmap = testing::RandomBitmap(kShape, 50, random);
  PolicyText text;
  text.version = std::to_string(version);
  text.model = ModelDigest(model).ToString();
  text.shape = kShape;
  PolicyFile file;
  file.mask_name = text.version + ".mask";
  text.experts = "{file: " + file.mask_name + ", sha256: " + testing::HexSha256(bitmap) + "}";
  file.yaml = text.Text();
  file.mask = testing::Compress(bitmap);
  auto policy = ParsePolicy(file.yaml, file.mask);
  EXPECT_TRUE(policy.ok()) << Message(policy.status());
  file.policy = *policy;
  return file;
}

std::string Push(const PolicyFile& file, const std::string& name, const TemporaryFolder& folder) {
  const auto result = PushPolicy(file, name, folder.path());
  if (!result.ok()) return Message(result.status());
  return *result == PushResult::kWritten ? "written" : "unchanged";
}

absl::StatusOr<std::shared_ptr<const PolicySnapshot>> Load(const TemporaryFolder& folder) {
  return PolicySnapshot::Load(folder.path(), ModelDigest(1), kShape);
}

TEST(PolicyPushTest, WritesWhatAServerTakes) {
  TemporaryFolder folder;
  EXPECT_EQ(Push(Make(1), "1.yaml", folder), "written");
  EXPECT_EQ(Push(Make(2), "2.yaml", folder), "written");
  EXPECT_EQ(Push(Make(1), "1.yaml", folder), "unchanged");
  const auto snapshot = Load(folder);
  ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
  EXPECT_EQ((*(*snapshot)->Find("no-test@1"))->digest, Make(1).policy.digest);
  EXPECT_EQ((*(*snapshot)->Find("no-test"))->digest, Make(2).policy.digest);
}

TEST(PolicyPushTest, NeverOverwritesAnother) {
  TemporaryFolder folder;
  EXPECT_EQ(Push(Make(1), "1.yaml", folder), "written");
  EXPECT_EQ(Push(Make(1, 1, /*content=*/7), "1.yaml", folder),
            "no-test/1.yaml: the version is there with other content; give it another number");
  EXPECT_EQ(Push(Make(1, 1, /*content=*/7), "1.01010101.yaml", folder),
            "no-test/1.yaml: the version is there with other content; give it another number");
  PolicyFile other = Make(1, /*model=*/2);
  EXPECT_EQ(Push(other, "1.yaml", folder),
            "no-test/1.yaml: is of another model; call the file 1.02020202.yaml, and its mask "
            "likewise");
  EXPECT_EQ(Push(other, "1.02020202.yaml", folder),
            "no-test/1.yaml: has a mask file of the same name, 1.mask");
  const auto snapshot = Load(folder);
  ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
  EXPECT_EQ((*(*snapshot)->Find("no-test@1"))->digest, Make(1).policy.digest);

  folder.Write("no-test/3.yaml", "garbage");
  EXPECT_THAT(Push(Make(2), "2.yaml", folder), HasSubstr("no-test/3.yaml: line 1"));
  EXPECT_FALSE(fs::exists(folder.path() / "no-test/2.yaml"));
  EXPECT_EQ(Message(PushPolicy(Make(1), "1.yaml", folder.path() / "nowhere").status()),
            "No such file or directory");
}

// A mask that is there without its policy file must be known for one.
TEST(PolicyPushTest, MasksAreCalledMasks) {
  TemporaryFolder folder;
  PolicyFile file = Make(1);
  file.mask_name = "1.bin";
  EXPECT_EQ(Push(file, "1.yaml", folder),
            "no-test/1.bin: the mask file's name must end with .mask");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(PolicyPushTest, OneAtATime) {
  TemporaryFolder folder;
  const int other = open(folder.path().c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(flock(other, LOCK_EX), 0);
  EXPECT_EQ(Push(Make(1), "1.yaml", folder), "another push is at work there");
  close(other);
  EXPECT_EQ(Push(Make(1), "1.yaml", folder), "written");
}

// A process that pushes version after version is killed at any moment: what it leaves is a
// directory that a server takes, with whole policies only, and the next push goes on.
TEST(PolicyPushTest, AKilledPushLeavesWholePolicies) {
  TemporaryFolder folder;
  std::vector<PolicyFile> files;
  for (int version = 1; version <= 400; ++version) files.push_back(Make(version));
  std::mt19937 random(11);
  size_t known = 0;
  int partial = 0;
  for (int round = 0; round < 60 && known < 300; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (const PolicyFile& file : files) {
        if (!PushPolicy(file, std::to_string(file.policy.version) + ".yaml", folder.path()).ok()) {
          _exit(1);
        }
      }
      _exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
    const auto snapshot = Load(folder);
    ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
    EXPECT_GE((*snapshot)->policies().size(), known);
    known = (*snapshot)->policies().size();
    for (const auto& policy : (*snapshot)->policies()) {
      EXPECT_EQ(policy->digest, files[static_cast<size_t>(policy->version) - 1].policy.digest);
    }
    std::error_code error;  // killed before it made the folder
    for (const auto& entry : fs::directory_iterator(folder.path() / "no-test", error)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with('.')) ++partial;
    }
  }
  EXPECT_GT(known, 0u);
  EXPECT_GT(partial, 0);  // else nobody was killed in the middle
}

}  // namespace
}  // namespace monet
