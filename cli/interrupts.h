// SIGINT and SIGTERM as ordinary events: a thread waits for them, so that what they set off may
// lock, cancel a call or remove a file.
#pragma once

#include <atomic>
#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

namespace monet::cli {

// Construct before any other thread starts: threads inherit the blocked signals. Without a Scope a
// signal ends the process with exit code 128 + n; within one it runs the scope's function, and only
// a second signal ends the process. Signals that the parent process chose to ignore stay ignored.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // The first signal received, 0 for none. Thread-safe.
  int signal() const { return signal_.load(); }

  // While it lives, `on_signal` runs (on the waiting thread, at most once) when a signal comes; at
  // once if one came before. One scope at a time.
  class Scope {
   public:
    Scope(Interrupts* interrupts, std::function<void()> on_signal);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupts* interrupts_;
  };

 private:
  void Wait();
  void Handle(int signal);

  sigset_t signals_;
  std::atomic<int> signal_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::function<void()> on_signal_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace monet::cli
