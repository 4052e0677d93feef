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

bool Ingress::TrySubmit(size_t bytes, std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || queue_.size() >= limits_.tasks || bytes > limits_.bytes - bytes_) return false;
    bytes_ += bytes;
    queue_.push_back({bytes, std::move(task)});
  }
  wake_.notify_one();
  return true;
}

void Ingress::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task.run();
    task.run = nullptr;  // frees the message before its bytes are given back
    lock.lock();
    bytes_ -= task.bytes;
  }
}

}  // namespace monet::server
