#include "server/stalled_streams.h"

#include <utility>

namespace monet::server {

StalledStreams::StalledStreams(std::chrono::milliseconds limit)
    : limit_(limit), thread_([this] { Run(); }) {}

StalledStreams::~StalledStreams() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void StalledStreams::Watch(std::weak_ptr<Stream> stream) {
  std::lock_guard lock(mutex_);
  streams_.push_back(std::move(stream));
}

void StalledStreams::Run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, limit_ / 4, [this] { return stopping_; })) {
    lock.unlock();
    Look();
    lock.lock();
  }
}

void StalledStreams::Look() {
  std::vector<std::shared_ptr<Stream>> alive;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(streams_, [&alive](const std::weak_ptr<Stream>& stream) {
      auto held = stream.lock();
      if (held == nullptr) return true;
      alive.push_back(std::move(held));
      return false;
    });
  }
  // Without the mutex: ending a call must not hold up those that begin.
  const Clock::time_point before = Clock::now() - limit_;
  for (const auto& stream : alive) stream->EndIfStalledSince(before);
}

}  // namespace monet::server
