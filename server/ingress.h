// The small pool that does a request's first work: parsing, tokenising, hashing and uniting masks.
// gRPC's own threads (two in a process) never do any of it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace monet::server {

// Bounded in tasks and in bytes. Owners take turns, and with `share` none of them may have more
// than is free, so that a flood of one leaves room for others. Thread-safe.
class Ingress {
 public:
  struct Limits {
    int32_t threads = 2;
    size_t tasks = 256;  // waiting
    size_t bytes = 0;    // of the waiting and running tasks' messages
    bool share = false;  // after the dynamic thresholds of Choudhury and Hahne (1998)
  };

  explicit Ingress(Limits limits);
  // Runs what is queued, then joins.
  ~Ingress();

  // False at once when full, full for this owner, or stopping; the task then never runs. `bytes` is
  // what the task keeps in memory; one task larger than the limit is refused.
  bool TrySubmit(size_t bytes, std::function<void()> task, const std::string& owner = {});

 private:
  struct Task {
    size_t bytes = 0;
    std::function<void()> run;
  };
  // One owner's.
  struct Lane {
    std::deque<Task> waiting;
    size_t bytes = 0;  // of the waiting and running ones
    size_t running = 0;
  };
  bool HasRoom(size_t bytes, const std::string& owner) const;
  void Work();

  const Limits limits_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, Lane> lanes_;  // of owners that have a task
  std::deque<std::string> turns_;      // owners that have one waiting, the next one first
  size_t waiting_ = 0;
  size_t bytes_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace monet::server
