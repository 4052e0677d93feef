#include "server/reloads.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

#include "runtime/limits.h"

namespace monet::server {
namespace {

namespace fs = std::filesystem;

// Clocks of file systems tick coarsely: within this time two writes may carry the same time.
constexpr int64_t kCoarseNanoseconds = 2'000'000'000;
constexpr int kMaxDepth = 2;

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

class FileSigner {
 public:
  void Add(const fs::path& path, int depth) {
    struct stat info = {};
    const bool found = stat(path.c_str(), &info) == 0;
    if (++entries_ > limits::kMaxWatchedEntries) return;
    AddText(path.string());
    AddNumber(found ? 1 : 0);
    if (!found) return;
    for (const uint64_t number :
         {static_cast<uint64_t>(info.st_dev), static_cast<uint64_t>(info.st_ino),
          static_cast<uint64_t>(info.st_size), static_cast<uint64_t>(Nanoseconds(info.st_mtim)),
          static_cast<uint64_t>(Nanoseconds(info.st_ctim))}) {
      AddNumber(number);
    }
    newest_ = std::max({newest_, Nanoseconds(info.st_mtim), Nanoseconds(info.st_ctim)});
    if (S_ISDIR(info.st_mode) && depth < kMaxDepth) AddEntries(path, depth + 1);
  }

  bool TooMany() const { return entries_ > limits::kMaxWatchedEntries; }
  int64_t newest() const { return newest_; }
  Digest Finish() { return hasher_.Finish(); }

 private:
  void AddEntries(const fs::path& directory, int depth) {
    std::vector<fs::path> entries;
    std::error_code error;
    for (fs::directory_iterator it(directory, error), end; !error && it != end;
         it.increment(error)) {
      if (it->path().filename().string().starts_with('.')) continue;
      if (entries.size() > limits::kMaxWatchedEntries) break;
      entries.push_back(it->path());
    }
    std::sort(entries.begin(), entries.end());
    for (const fs::path& entry : entries) Add(entry, depth);
  }
  void AddText(const std::string& text) {
    AddNumber(text.size());
    hasher_.Update(std::string_view(text));
  }
  void AddNumber(uint64_t number) {
    hasher_.UpdateU32(static_cast<uint32_t>(number));
    hasher_.UpdateU32(static_cast<uint32_t>(number >> 32));
  }

  Hasher hasher_;
  size_t entries_ = 0;
  int64_t newest_ = 0;
};

absl::StatusOr<ReloadOutcome> Call(const Reload& reload, ReloadTrigger trigger) {
  try {
    return reload(trigger);
  } catch (const std::exception& error) {  // out of memory, a file system that goes away
    return Error(absl::StatusCode::kInternal, "{}", error.what());
  }
}

}  // namespace

void Reloads::Register(std::string name, std::string summary, Reload reload, AskStanding now) {
  std::lock_guard lock(mutex_);
  Entry entry;
  entry.state.name = std::move(name);
  entry.state.summary = std::move(summary);
  entry.reload = std::move(reload);
  entry.now = std::move(now);
  entries_.push_back(std::move(entry));
}

std::vector<Reloads::State> Reloads::Run(ReloadTrigger trigger) {
  std::lock_guard running(running_);
  size_t count = 0;
  {
    std::lock_guard lock(mutex_);
    if (!stopped_) count = entries_.size();
  }
  for (size_t i = 0; i < count; ++i) RunEntry(i, trigger);
  return States();
}

void Reloads::RunEntry(size_t index, ReloadTrigger trigger) {
  Reload reload;
  State before;
  {
    std::lock_guard lock(mutex_);
    reload = entries_[index].reload;
    before = entries_[index].state;
  }
  const absl::StatusOr<ReloadOutcome> outcome = Call(reload, trigger);  // health must not wait
  const std::string error = outcome.ok() ? "" : Message(outcome.status());
  // A watch meets the same bad file again and again; one line in the log is enough.
  if (!error.empty() && (error != before.error || trigger == ReloadTrigger::kRequest)) {
    spdlog::error("reload of {} failed, the last good stays in force: {}", before.name, error);
  } else if (outcome.ok() && (outcome->changed || !before.error.empty())) {
    spdlog::info("reloaded {}: {}", before.name, outcome->summary);
  }
  std::lock_guard lock(mutex_);
  State& state = entries_[index].state;
  state.error = error;
  state.changed = outcome.ok() && outcome->changed;
  if (outcome.ok()) state.summary = outcome->summary;
}

std::vector<Reloads::State> Reloads::States() const {
  std::lock_guard lock(mutex_);
  std::vector<State> states;
  for (const Entry& entry : entries_) {
    State& state = states.emplace_back(entry.state);
    if (entry.now == nullptr || stopped_) continue;
    ReloadStanding now = entry.now();
    state.summary = std::move(now.summary);
    state.error = std::move(now.error);
  }
  return states;
}

void Reloads::Watch(std::chrono::milliseconds interval) {
  if (interval.count() == 0 || thread_.joinable()) return;
  thread_ = std::thread([this, interval] {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, interval, [this] { return stopped_; })) {
      lock.unlock();
      Run(ReloadTrigger::kWatch);
      lock.lock();
    }
  });
}

void Reloads::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  std::lock_guard running(running_);  // one that an administrator asked for
}

WatchedFiles::WatchedFiles(std::vector<fs::path> paths) : paths_(std::move(paths)) {}

WatchedFiles::Signature WatchedFiles::Sign() const {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  FileSigner signer;
  for (const fs::path& path : paths_) signer.Add(path, 0);
  const bool stable = !signer.TooMany() && signer.newest() < Nanoseconds(now) - kCoarseNanoseconds;
  return {signer.Finish(), stable};
}

void WatchedFiles::Settle(const Signature& read) {
  settled_.reset();
  if (read.stable) settled_ = read.digest;
}

}  // namespace monet::server
