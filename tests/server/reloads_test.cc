#include "server/reloads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "tests/policy/policy_writer.h"

namespace monet::server {
namespace {

using testing::TemporaryFolder;

TEST(Reloads, RunsAllInOrderWhateverFails) {
  Reloads reloads;
  std::string order;
  reloads.Register("a", "one", [&](ReloadTrigger) -> absl::StatusOr<ReloadOutcome> {
    order += "a";
    return InvalidArgument("a is broken");
  });
  reloads.Register("b", "", [&](ReloadTrigger) -> absl::StatusOr<ReloadOutcome> {
    order += "b";
    throw std::runtime_error("b throws");
  });
  reloads.Register("c", "", [&](ReloadTrigger) -> absl::StatusOr<ReloadOutcome> {
    order += "c";
    return ReloadOutcome{true, "two"};
  });
  EXPECT_EQ(reloads.States()[0].summary, "one");
  const auto states = reloads.Run(ReloadTrigger::kRequest);
  EXPECT_EQ(order, "abc");
  ASSERT_EQ(states.size(), 3);
  EXPECT_EQ(states[0].error, "a is broken");
  EXPECT_EQ(states[0].summary, "one");
  EXPECT_FALSE(states[0].changed);
  EXPECT_EQ(states[1].error, "b throws");
  EXPECT_EQ(states[2].error, "");
  EXPECT_EQ(states[2].summary, "two");
  EXPECT_TRUE(states[2].changed);
}

// Of what another thread reads too, the last run is not the last news.
TEST(Reloads, AsksHowItStandsNow) {
  Reloads reloads;
  ReloadStanding now{"two", ""};
  int asked = 0;
  reloads.Register(
      "a", "one",
      [](ReloadTrigger) {
        return ReloadOutcome{false, "two"};
      },
      [&] {
        ++asked;
        return now;
      });
  EXPECT_EQ(reloads.States()[0].summary, "two");
  now = {"three", "bad"};
  EXPECT_EQ(reloads.States()[0].summary, "three");
  EXPECT_EQ(reloads.States()[0].error, "bad");
  now.error.clear();
  EXPECT_EQ(reloads.States()[0].error, "");
  reloads.Stop();
  const int before = asked;
  reloads.States();
  EXPECT_EQ(asked, before);
}

TEST(Reloads, WatchesUntilStopped) {
  Reloads reloads;
  std::atomic<int> runs = 0;
  reloads.Register("a", "", [&](ReloadTrigger trigger) -> absl::StatusOr<ReloadOutcome> {
    EXPECT_EQ(trigger, ReloadTrigger::kWatch);
    ++runs;
    return ReloadOutcome();
  });
  reloads.Watch(std::chrono::milliseconds(0));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(runs, 0);
  reloads.Watch(std::chrono::milliseconds(5));
  for (int i = 0; i < 400 && runs < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_GE(runs, 3);
  reloads.Stop();
  const int before = runs;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(runs, before);
  EXPECT_EQ(reloads.Run(ReloadTrigger::kRequest).size(), 1);
  EXPECT_EQ(runs, before);
}

class WatchedFilesTest : public ::testing::Test {
 protected:
  // How often `load` ran in one Read.
  int Loads(ReloadTrigger trigger) {
    int loads = 0;
    const auto read = watched_.Read<int>(trigger, [&]() -> absl::StatusOr<int> {
      ++loads;
      return 0;
    });
    EXPECT_TRUE(read.ok());
    EXPECT_EQ(read->has_value(), loads > 0);
    return loads;
  }
  void WaitUntilStable() { std::this_thread::sleep_for(std::chrono::milliseconds(2100)); }

  TemporaryFolder folder_;
  WatchedFiles watched_{{folder_.path()}};
};

TEST_F(WatchedFilesTest, ReadsAgainWhatMayHaveChanged) {
  folder_.Write("..data/1.yaml", "one");
  std::filesystem::create_directories(folder_.path() / "a");
  std::filesystem::create_symlink("../..data/1.yaml", folder_.path() / "a/1.yaml");
  EXPECT_EQ(Loads(ReloadTrigger::kWatch), 1);
  EXPECT_EQ(Loads(ReloadTrigger::kWatch), 1);  // changed too recently to be sure
  WaitUntilStable();
  EXPECT_EQ(Loads(ReloadTrigger::kWatch), 1);
  EXPECT_EQ(Loads(ReloadTrigger::kWatch), 0);
  EXPECT_EQ(Loads(ReloadTrigger::kRequest), 1);
  EXPECT_EQ(Loads(ReloadTrigger::kWatch), 0);
  // As a ConfigMap is swapped: the visible link stays, what it leads to is another file of the
  // same size and time.
  folder_.Write("..next/1.yaml", "two");
  std::filesystem::last_write_time(
      folder_.path() / "..next/1.yaml",
      std::filesystem::last_write_time(folder_.path() / "..data/1.yaml"));
  std::filesystem::rename(folder_.path() / "..data", folder_.path() / "..old");
  std::filesystem::rename(folder_.path() / "..next", folder_.path() / "..data");
  EXPECT_EQ(Loads(ReloadTrigger::kWatch), 1);
}

TEST_F(WatchedFilesTest, WaitsForAWriterToFinish) {
  int loads = 0;
  const auto writing = [&]() -> absl::StatusOr<int> {
    folder_.Write("a/" + std::to_string(++loads), "x");
    return 0;
  };
  auto read = watched_.Read<int>(ReloadTrigger::kWatch, writing);
  ASSERT_TRUE(read.ok());
  EXPECT_FALSE(read->has_value());
  read = watched_.Read<int>(ReloadTrigger::kRequest, writing);
  EXPECT_EQ(read.status().code(), absl::StatusCode::kUnavailable);
  const auto once = [&]() -> absl::StatusOr<int> { return loads < 5 ? writing() : 7; };
  read = watched_.Read<int>(ReloadTrigger::kRequest, once);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->value(), 7);
}

}  // namespace
}  // namespace monet::server
