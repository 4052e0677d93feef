#include "server/cpu_budget.h"

#include <sched.h>
#include <unistd.h>

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

// The number after `name` in a file of names and numbers; 0 when there is none.
int64_t NumberAfter(const std::filesystem::path& path, const std::string& name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    int64_t value = 0;
    if (words >> word >> value && word == name) return value;
  }
  return 0;
}

// Resident bytes that belong to no file.
int64_t OwnMemory(const SystemFiles& files) {
  std::ifstream file(files.proc / "self/statm");  // in pages: size, resident, of files
  int64_t size = 0;
  int64_t resident = 0;
  int64_t shared = 0;
  if (!(file >> size >> resident >> shared)) return 0;
  return std::max<int64_t>(0, resident - shared) * sysconf(_SC_PAGESIZE);
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

MemoryBudget ProcessMemory(const SystemFiles& files) {
  const int64_t total = NumberAfter(files.proc / "meminfo", "MemTotal:") * 1024;
  // What this process already has is its own to use.
  const int64_t own = OwnMemory(files);
  MemoryBudget budget{.bytes = NumberAfter(files.proc / "meminfo", "MemAvailable:") * 1024 + own};
  const auto limit = [&](int64_t most, int64_t used, int64_t reclaimable) {
    if (most < 0 || used < 0 || most >= total) return;
    budget.limited = true;
    const int64_t others = std::max<int64_t>(0, used - reclaimable - own);
    budget.bytes = std::min(budget.bytes, std::max<int64_t>(0, most - others));
  };
  for (const auto& group : Groups(files, "")) {
    limit(ReadNumber(group / "memory.max"), ReadNumber(group / "memory.current"),
          NumberAfter(group / "memory.stat", "inactive_file"));
  }
  for (const auto& group : Groups(files, "memory")) {
    limit(ReadNumber(group / "memory.limit_in_bytes"), ReadNumber(group / "memory.usage_in_bytes"),
          NumberAfter(group / "memory.stat", "total_inactive_file"));
  }
  budget.bytes = std::max<int64_t>(0, budget.bytes);
  return budget;
}

}  // namespace monet::server
