// How many CPUs and how much memory this process may use: from its cgroup (v2 or v1) and its CPU
// affinity, never from the whole machine. Spinning more threads than a CPU quota allows makes
// computing many times slower.
#pragma once

#include <cstdint>
#include <filesystem>

namespace monet::server {

// Where the operating system is read from; tests point it at files of their own.
struct SystemFiles {
  std::filesystem::path cgroup = "/sys/fs/cgroup";
  std::filesystem::path proc = "/proc";
};

// Whole CPUs of the quota, at least 1; INT32_MAX without a quota.
int32_t CgroupCpus(const SystemFiles& files);
// The smaller of quota and affinity; at least 1.
int32_t AvailableCpus(const SystemFiles& files = {});

struct MemoryBudget {
  int64_t bytes = 0;     // that this process may have in all, with what it has already
  bool limited = false;  // by a cgroup: then nobody else is expected to want them
};
// The smaller of the machine's available memory and what every cgroup's limit leaves. Pages of
// files that the kernel can drop count as free.
MemoryBudget ProcessMemory(const SystemFiles& files = {});

}  // namespace monet::server
