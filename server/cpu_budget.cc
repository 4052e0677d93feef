#include "server/cpu_budget.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace monet::server {
namespace {

// `names`: "cpu,cpuacct", or "" for version 2, which is meant by an empty `controller`.
bool NamesController(const std::string& names, const std::string& controller) {
  if (controller.empty()) return names.empty();
  std::istringstream list(names);
  std::string name;
  while (std::getline(list, name, ',')) {
    if (name == controller) return true;
  }
  return false;
}

// The process's own group and every group above it: each may have a limit. Inside a container the
// group's path may not exist below the mount, which is then the group itself.
std::vector<std::filesystem::path> Groups(const SystemFiles& files, const std::string& controller) {
  std::vector<std::filesystem::path> groups;
  const std::filesystem::path mount = controller.empty() ? files.cgroup : files.cgroup / controller;
  std::ifstream list(files.proc / "self/cgroup");
  std::string line;
  while (std::getline(list, line)) {  // 0::/path, or 4:cpu,cpuacct:/path
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    if (!NamesController(line.substr(first + 1, second - first - 1), controller)) continue;
    std::filesystem::path path = std::filesystem::path(line.substr(second + 1)).relative_path();
    while (!path.empty()) {
      groups.push_back(mount / path);
      path = path.parent_path();
    }
  }
  groups.push_back(mount);
  return groups;
}

// The first number of a file; -1 when there is none ("max", no such file).
int64_t ReadNumber(const std::filesystem::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : -1;
}

int32_t WholeCpus(int64_t quota, int64_t period) {
  if (quota <= 0 || period <= 0) return std::numeric_limits<int32_t>::max();
  return static_cast<int32_t>(std::clamp<int64_t>(quota / period, 1, 65536));
}

}  // namespace

int32_t CgroupCpus(const SystemFiles& files) {
  int32_t cpus = std::numeric_limits<int32_t>::max();
  for (const auto& group : Groups(files, "")) {
    std::ifstream file(group / "cpu.max");
    int64_t quota = 0;
    int64_t period = 0;
    if (file >> quota >> period) cpus = std::min(cpus, WholeCpus(quota, period));
  }
  for (const auto& group : Groups(files, "cpu")) {
    cpus = std::min(cpus, WholeCpus(ReadNumber(group / "cpu.cfs_quota_us"),
                                    ReadNumber(group / "cpu.cfs_period_us")));
  }
  return cpus;
}

int32_t AvailableCpus(const SystemFiles& files) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int32_t affinity = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, std::min(affinity, CgroupCpus(files)));
}

int64_t AvailableMemory(const SystemFiles& files) {
  int64_t available = 0;
  std::ifstream meminfo(files.proc / "meminfo");
  std::string line;
  while (std::getline(meminfo, line)) {
    if (line.starts_with("MemAvailable:")) available = std::atoll(line.c_str() + 13) * 1024;
  }
  const auto limit = [&](int64_t most, int64_t used) {
    if (most >= 0 && used >= 0) available = std::min(available, std::max<int64_t>(0, most - used));
  };
  for (const auto& group : Groups(files, "")) {
    limit(ReadNumber(group / "memory.max"), ReadNumber(group / "memory.current"));
  }
  for (const auto& group : Groups(files, "memory")) {
    limit(ReadNumber(group / "memory.limit_in_bytes"), ReadNumber(group / "memory.usage_in_bytes"));
  }
  return std::max<int64_t>(0, available);
}

}  // namespace monet::server
