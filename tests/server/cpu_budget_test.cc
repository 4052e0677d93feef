#include "server/cpu_budget.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

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

TEST_F(CpuBudgetTest, MemoryWithoutALimitIsWhatTheMachineHasAvailable) {
  Write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n");
  EXPECT_EQ(ProcessMemory(files_).bytes, 4000 * 1024);
  EXPECT_FALSE(ProcessMemory(files_).limited);
}

TEST_F(CpuBudgetTest, MemoryIsTheSmallerOfMachineAndGroup) {
  Write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n");
  Write("proc/self/cgroup", "0::/\n");
  Write("cgroup/memory.max", "3000000\n");
  Write("cgroup/memory.current", "1000000\n");
  EXPECT_EQ(ProcessMemory(files_).bytes, 2000000);
  EXPECT_TRUE(ProcessMemory(files_).limited);
  Write("cgroup/memory.current", "3500000\n");
  EXPECT_EQ(ProcessMemory(files_).bytes, 0);
}

TEST_F(CpuBudgetTest, CachedFilesAndTheProcessItselfDoNotCountAsTaken) {
  Write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n");
  Write("proc/self/cgroup", "0::/pod/main\n");
  Write("cgroup/pod/main/memory.max", "3000000\n");
  Write("cgroup/pod/main/memory.current", "2000000\n");
  Write("cgroup/pod/main/memory.stat", "anon 500000\ninactive_file 1500000\nactive_file 1\n");
  EXPECT_EQ(ProcessMemory(files_).bytes, 2500000);
  const int64_t page = sysconf(_SC_PAGESIZE);
  Write("proc/self/statm", "1000 110 10\n");
  EXPECT_EQ(ProcessMemory(files_).bytes, 2500000 + 100 * page);
  Write("cgroup/pod/memory.max", "2600000\n");  // of the group above
  Write("cgroup/pod/memory.current", "2200000\n");
  Write("cgroup/pod/memory.stat", "inactive_file 1500000\n");
  EXPECT_EQ(ProcessMemory(files_).bytes, 2600000 - 700000 + 100 * page);
}

TEST_F(CpuBudgetTest, MemoryOfVersion1) {
  Write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n");
  Write("proc/self/cgroup", "3:memory:/docker/x\n0::/\n");
  Write("cgroup/memory/docker/memory.limit_in_bytes", "9223372036854771712\n");  // none
  Write("cgroup/memory/docker/memory.usage_in_bytes", "123\n");
  EXPECT_FALSE(ProcessMemory(files_).limited);
  Write("cgroup/memory/docker/x/memory.limit_in_bytes", "4000000\n");
  Write("cgroup/memory/docker/x/memory.usage_in_bytes", "3000000\n");
  Write("cgroup/memory/docker/x/memory.stat", "total_inactive_file 1000000\n");
  EXPECT_EQ(ProcessMemory(files_).bytes, 2000000);
  EXPECT_TRUE(ProcessMemory(files_).limited);
}

}  // namespace
}  // namespace monet::server
