#include "server/cpu_budget.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "server/serving_model.h"

namespace monet::server {
namespace {

// A made-up /sys/fs/cgroup and /proc.
class CpuBudgetTest : public ::testing::Test {
 protected:
  CpuBudgetTest() {
    root_ = std::filesystem::path(::testing::TempDir()) /
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    files_ = {root_ / "cgroup", root_ / "proc"};
  }
  void Write(const std::string& path, const std::string& text) {
    const auto full = root_ / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }

  std::filesystem::path root_;
  SystemFiles files_;
};

constexpr int32_t kNoQuota = std::numeric_limits<int32_t>::max();

TEST_F(CpuBudgetTest, WithoutCgroupThereIsNoQuota) {
  EXPECT_EQ(CgroupCpus(files_), kNoQuota);
  EXPECT_GE(AvailableCpus(files_), 1);
}

TEST_F(CpuBudgetTest, Version2TakesTheTightestLevel) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("cgroup/pod/cpu.max", "400000 100000\n");
  Write("cgroup/pod/container/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupCpus(files_), 4);
  Write("cgroup/pod/container/cpu.max", "250000 100000\n");
  EXPECT_EQ(CgroupCpus(files_), 2);
}

TEST_F(CpuBudgetTest, InsideAContainerTheMountIsTheGroup) {
  Write("proc/self/cgroup", "0::/kubepods/xyz\n");
  Write("cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(CgroupCpus(files_), 1);  // half a CPU still computes with one thread
  EXPECT_EQ(AvailableCpus(files_), 1);
}

TEST_F(CpuBudgetTest, Version1) {
  Write("proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n");
  Write("cgroup/cpu/docker/x/cpu.cfs_quota_us", "300000\n");
  Write("cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CgroupCpus(files_), 3);
  Write("cgroup/cpu/docker/x/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(CgroupCpus(files_), kNoQuota);
}

TEST_F(CpuBudgetTest, MemoryIsTheSmallerOfMachineAndGroup) {
  Write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n");
  EXPECT_EQ(AvailableMemory(files_), 4000 * 1024);
  Write("proc/self/cgroup", "0::/\n");
  Write("cgroup/memory.max", "3000000\n");
  Write("cgroup/memory.current", "1000000\n");
  EXPECT_EQ(AvailableMemory(files_), 2000000);
  Write("cgroup/memory.current", "3500000\n");
  EXPECT_EQ(AvailableMemory(files_), 0);
}

TEST(KvBlocks, DefaultsModestlyAndNeverBelowOneContext) {
  EXPECT_EQ(*KvBlocks(0, 512, 16, 1000, int64_t{1} << 40), 32 * 512 / 16);
  EXPECT_EQ(*KvBlocks(0, 512, 16, 1000, 4000 * 600), (600 + 15) / 16);
  EXPECT_FALSE(KvBlocks(0, 512, 16, 1000, 4000 * 511).ok());
  EXPECT_FALSE(KvBlocks(511, 512, 16, 1000, 0).ok());
  EXPECT_EQ(*KvBlocks(513, 512, 16, 1000, 0), 33);
}

}  // namespace
}  // namespace monet::server
