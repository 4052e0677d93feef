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

std::string Push(const PolicyFile& file, int version, const TemporaryFolder& folder) {
  return Push(file, std::to_string(version) + ".yaml", folder);
}

// Hidden ones included.
size_t CountFiles(const TemporaryFolder& folder) {
  size_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
    count += entry.is_regular_file() ? 1 : 0;
  }
  return count;
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
  constexpr size_t kVersions = 40;
  std::vector<PolicyFile> files;
  for (size_t n = 0; n < kVersions; ++n) files.push_back(Make(static_cast<int>(n) + 1));
  std::mt19937 random(11);
  size_t most = 0;
  int half_done = 0;
  // How long a push takes is the disk's to say.
  const auto start = std::chrono::steady_clock::now();
  TemporaryFolder measured;
  for (size_t n = 0; n < 4; ++n) Push(files[n], files[n].policy.version, measured);
  const auto four = std::chrono::steady_clock::now() - start;
  const auto four_us = std::chrono::duration_cast<std::chrono::microseconds>(four).count() + 1;
  for (int round = 0; round < 30; ++round) {
    TemporaryFolder folder;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (const PolicyFile& file : files) Push(file, file.policy.version, folder);
      _exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % four_us));
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    const auto snapshot = Load(folder);
    ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
    const size_t known = (*snapshot)->policies().size();
    for (size_t n = 0; n < known; ++n) {
      EXPECT_EQ((*snapshot)->policies()[n]->digest, files[n].policy.digest);
    }
    half_done += CountFiles(folder) == 2 * known ? 0 : 1;
    most = std::max(most, known);
    if (known == kVersions) continue;
    EXPECT_EQ(Push(files[known], files[known].policy.version, folder), "written");
  }
  EXPECT_GT(most, 0u);
  EXPECT_GT(half_done, 0);  // else nobody was killed in the middle
}

}  // namespace
}  // namespace monet
