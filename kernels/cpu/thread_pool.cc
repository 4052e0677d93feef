#include "kernels/cpu/thread_pool.h"

#include <chrono>

#include "kernels/cpu/flush_denormals.h"

namespace monet::kernels {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Polls `ready` for at most kSpin.
template <typename Ready>
bool SpinUntil(const Ready& ready) {
  constexpr int kPollsPerClockRead = 32;
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int n = 0; n < kPollsPerClockRead; ++n) {
      if (ready()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

constexpr uint32_t JobOf(uint64_t open) { return static_cast<uint32_t>(open >> 32); }
constexpr uint32_t LeftOf(uint64_t open) { return static_cast<uint32_t>(open); }

}  // namespace

ThreadPool::ThreadPool(int32_t threads) {
  for (int32_t n = 1; n < threads; ++n) workers_.emplace_back([this, n] { Work(n); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true);
  }
  wake_workers_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t items, Task task, const void* context) {
  if (workers_.empty() || items <= 1) {
    for (int64_t item = 0; item < items; ++item) task(context, item, 0);
    return;
  }
  task_.store(task, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint32_t job = JobOf(open_.load(std::memory_order_relaxed)) + 1;
  open_.store(uint64_t{job} << 32 | static_cast<uint64_t>(items), std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    // A sleeper counts itself before it looks at open_, both in the total order: either it sees
    // the job, or it is seen here and, the lock once free, asleep.
    { std::lock_guard lock(mutex_); }
    wake_workers_.notify_all();
  }
  Drain(job, 0);
  WaitUntilDone(items);
}

void ThreadPool::Drain(uint32_t job, int32_t thread) {
  int64_t finished = 0;
  uint64_t open = open_.load(std::memory_order_acquire);
  while (JobOf(open) == job && LeftOf(open) > 0) {
    const Task task = task_.load(std::memory_order_relaxed);
    const void* context = context_.load(std::memory_order_relaxed);
    if (open_.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel,
                                    std::memory_order_acquire)) {
      task(context, LeftOf(open) - 1, thread);
      ++finished;
      open = open_.load(std::memory_order_acquire);
    }
  }
  if (finished > 0) {
    done_.fetch_add(finished, std::memory_order_seq_cst);
    if (thread != 0 && caller_sleeps_.load(std::memory_order_seq_cst)) {
      { std::lock_guard lock(mutex_); }
      wake_caller_.notify_one();
    }
  }
}

void ThreadPool::WaitUntilDone(int64_t items) {
  const auto done = [&] { return done_.load(std::memory_order_seq_cst) == items; };
  if (SpinUntil(done)) return;
  std::unique_lock lock(mutex_);
  caller_sleeps_.store(true, std::memory_order_seq_cst);
  wake_caller_.wait(lock, done);
  caller_sleeps_.store(false, std::memory_order_relaxed);
}

bool ThreadPool::WaitForJob(uint32_t seen) {
  const auto ready = [&] {
    return stop_.load(std::memory_order_relaxed) ||
           JobOf(open_.load(std::memory_order_seq_cst)) != seen;
  };
  if (!SpinUntil(ready)) {
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_workers_.wait(lock, ready);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }
  return !stop_.load(std::memory_order_relaxed);
}

void ThreadPool::Work(int32_t thread) {
  const FlushDenormals flush;
  uint32_t seen = 0;
  while (WaitForJob(seen)) {
    seen = JobOf(open_.load(std::memory_order_acquire));
    Drain(seen, thread);
  }
}

}  // namespace monet::kernels
