// A persistent pool for the short parallel loops of one caller.
//
// Idle threads spin for some tens of microseconds, then sleep: between the operations of a step
// they answer at once, under no load they cost nothing. The caller works too and only waits for
// items that another thread has begun, so a thread that the system does not run holds nobody up.
// Every computing thread flushes denormals.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace monet::kernels {

class ThreadPool {
 public:
  // One item of a loop. `thread` is in [0, threads()); 0 is the caller.
  using Task = void (*)(const void* context, int64_t item, int32_t thread);

  // REQUIRES: threads >= 1, the caller's included.
  explicit ThreadPool(int32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // Calls body(item, thread) for each item in [0, items), in any order and on any thread; returns
  // when all are done. One caller at a time, not from within an item. items < 2^31.
  template <typename Body>
  void For(int64_t items, const Body& body) {
    Run(
        items,
        [](const void* context, int64_t item, int32_t thread) {
          (*static_cast<const Body*>(context))(item, thread);
        },
        &body);
  }

 private:
  void Run(int64_t items, Task task, const void* context);
  void Work(int32_t thread);
  // Runs items of `job` until none is left to begin.
  void Drain(uint32_t job, int32_t thread);
  // Returns false when the pool ends.
  bool WaitForJob(uint32_t seen);
  void WaitUntilDone(int64_t items);

  // Job number in the upper half, items not yet begun in the lower: whoever takes one by
  // compare-and-swap knows that the job is unfinished and its fields are stable.
  alignas(64) std::atomic<uint64_t> open_{0};
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<Task> task_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<int32_t> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_workers_;
  std::condition_variable wake_caller_;
  std::vector<std::thread> workers_;
};

}  // namespace monet::kernels
