#include "server/outbox.h"

#include <utility>

namespace monet::server {

bool Outbox::HasRoom() const {
  std::lock_guard lock(mutex_);
  // A closed or broken stream takes everything and keeps nothing: its producer must not be paused.
  if (broken_ || status_ || (messages_.size() < capacity_ && bytes_ < max_bytes_)) return true;
  full_seen_ = true;
  return false;
}

void Outbox::Push(grpc::ByteBuffer message) {
  {
    std::lock_guard lock(mutex_);
    if (broken_ || status_) return;
    bytes_ += message.Length();
    messages_.push_back(std::move(message));
  }
  Drive();
}

void Outbox::Open() {
  {
    std::lock_guard lock(mutex_);
    open_ = true;
  }
  Drive();
}

void Outbox::Close(grpc::Status status) {
  {
    std::lock_guard lock(mutex_);
    if (status_) return;
    status_ = std::move(status);
    // Refused before it began: no message goes out. A stream that ended well before Open waits for
    // it, since the producer may be faster than the one who opens.
    if (!open_ && !status_->ok()) Clear();
  }
  Drive();
}

bool Outbox::WriteDone(bool ok) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    writing_ = false;
    bytes_ -= messages_.front().Length();
    messages_.pop_front();
    if (!ok) {
      broken_ = true;
      Clear();
    }
    // Half empty, so that a slow stream is not woken for every message.
    if (full_seen_ && messages_.size() <= capacity_ / 2 && bytes_ <= max_bytes_ / 2) {
      full_seen_ = false;
      wake = true;
    }
  }
  Drive();
  return wake;
}

bool Outbox::StalledSince(std::chrono::steady_clock::time_point before) const {
  std::lock_guard lock(mutex_);
  return writing_ && write_started_ <= before;
}

void Outbox::Clear() {
  messages_.clear();
  bytes_ = 0;
}

void Outbox::Drive() {
  const grpc::ByteBuffer* message = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (writing_ || finished_) return;
    if (open_ && !messages_.empty()) {
      writing_ = true;
      write_started_ = std::chrono::steady_clock::now();
      message = &messages_.front();  // a deque's elements stay where they are
    } else if (messages_.empty() && status_) {
      finished_ = true;
    } else {
      return;
    }
  }
  if (message != nullptr) {
    writer_->Write(message);
  } else {
    writer_->Finish(*status_);
  }
}

}  // namespace monet::server
