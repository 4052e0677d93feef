// The small pool that does a request's first work: parsing, tokenising, hashing and uniting masks.
// gRPC's own threads (two in a process) never do any of it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace monet::server {

// Bounded in tasks and in bytes. Thread-safe.
class Ingress {
 public:
  struct Limits {
    int32_t threads = 2;
    size_t tasks = 256;  // waiting
    size_t bytes = 0;    // of the waiting and running tasks' messages
  };

  explicit Ingress(Limits limits);
  // Runs what is queued, then joins.
  ~Ingress();

  // False at once when full or stopping; the task then never runs. `bytes` is what the task keeps
  // in memory; one task larger than the limit is refused.
  bool TrySubmit(size_t bytes, std::function<void()> task);

 private:
  struct Task {
    size_t bytes = 0;
    std::function<void()> run;
  };
  void Work();

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Task> queue_;
  size_t bytes_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace monet::server
