#include "runtime/model/parallel_tasks.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <thread>

namespace monet {
namespace {

// An exception that leaves a thread would end the process.
absl::Status RunOne(const std::function<absl::Status()>& task) {
  try {
    return task();
  } catch (const std::bad_alloc&) {
    return Error(absl::StatusCode::kResourceExhausted, "out of memory");
  }
}

}  // namespace

absl::Status RunTasks(const std::vector<std::function<absl::Status()>>& tasks, int32_t threads) {
  std::vector<absl::Status> results(tasks.size(), absl::OkStatus());
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  // Tasks are taken in order: when one fails, every earlier one has been started and will finish,
  // so the first error of the list is always seen.
  const auto work = [&] {
    while (!failed) {
      const size_t task = next++;
      if (task >= tasks.size()) return;
      results[task] = RunOne(tasks[task]);
      if (!results[task].ok()) failed = true;
    }
  };
  const size_t workers_wanted = std::min<size_t>(std::max(threads, 1), tasks.size());
  std::vector<std::thread> workers;
  for (size_t i = 1; i < workers_wanted; ++i) workers.emplace_back(work);
  work();
  for (std::thread& worker : workers) worker.join();
  for (absl::Status& result : results) {
    if (!result.ok()) return std::move(result);
  }
  return absl::OkStatus();
}

}  // namespace monet
