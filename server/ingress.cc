#include "server/ingress.h"

#include <utility>

namespace monet::server {

Ingress::Ingress(Limits limits) : limits_(limits) {
  for (int32_t i = 0; i < limits_.threads; ++i) threads_.emplace_back([this] { Work(); });
}

Ingress::~Ingress() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool Ingress::HasRoom(size_t bytes, const std::string& owner) const {
  if (waiting_ >= limits_.tasks || bytes > limits_.bytes - bytes_) return false;
  const auto lane = lanes_.find(owner);
  if (!limits_.share || lane == lanes_.end()) return true;
  return lane->second.waiting.size() < limits_.tasks - waiting_ &&
         lane->second.bytes + bytes <= limits_.bytes - bytes_;
}

bool Ingress::TrySubmit(size_t bytes, std::function<void()> task, const std::string& owner) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || !HasRoom(bytes, owner)) return false;
    Lane& lane = lanes_[owner];
    if (lane.waiting.empty()) turns_.push_back(owner);
    lane.waiting.push_back({bytes, std::move(task)});
    lane.bytes += bytes;
    bytes_ += bytes;
    ++waiting_;
  }
  wake_.notify_one();
  return true;
}

void Ingress::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !turns_.empty(); });
    if (turns_.empty()) return;
    const std::string owner = std::move(turns_.front());
    turns_.pop_front();
    const auto lane = lanes_.find(owner);  // stays while it has a task
    Task task = std::move(lane->second.waiting.front());
    lane->second.waiting.pop_front();
    if (!lane->second.waiting.empty()) turns_.push_back(owner);
    ++lane->second.running;
    --waiting_;
    lock.unlock();
    task.run();
    task.run = nullptr;  // frees the message before its bytes are given back
    lock.lock();
    bytes_ -= task.bytes;
    lane->second.bytes -= task.bytes;
    if (--lane->second.running == 0 && lane->second.waiting.empty()) lanes_.erase(lane);
  }
}

}  // namespace monet::server
