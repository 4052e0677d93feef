// What a running server can read again: policies, certificates, tenants, the administrator's token.
// Each is read as a whole; what cannot be used leaves the last good one in force.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"

namespace monet::server {

// Who asks: an administrator, for whom everything is read, or the watch, which may skip files that
// cannot have changed.
enum class ReloadTrigger : uint8_t { kRequest, kWatch };

struct ReloadOutcome {
  bool changed = false;  // something else is in force now
  std::string summary;   // for operators, one line: "12 policies; added no-python@2"
};

// Reads one thing again and puts it in force, or leaves everything as it was and returns why.
// Called by one thread at a time. Errors name the file or the entry.
using Reload = std::function<absl::StatusOr<ReloadOutcome>(ReloadTrigger)>;
// How a thing that others read again too stands now. Called on any thread; must not block, nor call
// Reloads.
struct ReloadStanding {
  std::string summary;  // of what is in force
  std::string error;    // of the last try; empty when it succeeded
};
using AskStanding = std::function<ReloadStanding()>;

// The list of what can be reloaded, and the thread that does so at intervals. Thread-safe.
class Reloads {
 public:
  struct State {
    std::string name;
    bool changed = false;
    std::string summary;  // of the last success; empty before the first
    std::string error;    // of the last try; empty when it succeeded
  };

  Reloads() = default;
  ~Reloads() { Stop(); }
  Reloads(const Reloads&) = delete;
  Reloads& operator=(const Reloads&) = delete;

  // `reload` is called until Stop. Order is that of registration, so what depends on something
  // comes after it. `summary` tells of what was read at start. With `now`, which is called until
  // Stop too, States does not rely on what was last run here.
  void Register(std::string name, std::string summary, Reload reload, AskStanding now = nullptr);

  // Reloads everything now; one that fails does not keep the others from being read.
  std::vector<State> Run(ReloadTrigger trigger);
  std::vector<State> States() const;

  // Run(kWatch) every `interval` on a thread of its own; 0: never.
  void Watch(std::chrono::milliseconds interval);
  // Ends the thread; nothing registered is called any more.
  void Stop();

 private:
  struct Entry {
    State state;
    Reload reload;
    AskStanding now;  // null: as of the last Run
  };
  void RunEntry(size_t index, ReloadTrigger trigger);

  std::mutex running_;  // one Run at a time; taken before mutex_
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Entry> entries_;
  bool stopped_ = false;
  std::thread thread_;
};

// Files and folders that are read again when they may have changed. A directory stands for its
// visible entries down to two levels, links followed, so that a swapped ConfigMap counts. Not
// thread-safe.
class WatchedFiles {
 public:
  explicit WatchedFiles(std::vector<std::filesystem::path> paths);

  // What `load` gives, unless nothing can have changed since the last success or, for kWatch, the
  // files are being written just now: then nothing, and the next watch tries again. Errors: of
  // `load`; UNAVAILABLE for kRequest when the files never hold still.
  template <typename T>
  absl::StatusOr<std::optional<T>> Read(ReloadTrigger trigger,
                                        const std::function<absl::StatusOr<T>()>& load) {
    const int tries = trigger == ReloadTrigger::kRequest ? 3 : 1;
    for (int i = 0; i < tries; ++i) {
      const Signature before = Sign();
      if (trigger == ReloadTrigger::kWatch && IsSettled(before)) return std::nullopt;
      absl::StatusOr<T> loaded = load();
      if (Sign().digest != before.digest) continue;
      if (!loaded.ok()) return loaded.status();
      Settle(before);
      return *std::move(loaded);
    }
    if (trigger == ReloadTrigger::kWatch) return std::nullopt;
    return Error(absl::StatusCode::kUnavailable, "the files are being changed; try again");
  }

 private:
  // Names, inodes, sizes and times of everything that is watched.
  struct Signature {
    Digest digest;
    bool stable = false;  // no file changed so recently that a second change may not show
  };
  Signature Sign() const;
  bool IsSettled(const Signature& now) const { return settled_ && *settled_ == now.digest; }
  void Settle(const Signature& read);

  const std::vector<std::filesystem::path> paths_;
  std::optional<Digest> settled_;  // of the last success, when stable
};

}  // namespace monet::server
