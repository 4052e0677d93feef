// Messages of one stream between the engine, which never waits, and a client that may be slow:
// bounded in messages and bytes, with one write in flight, closed by a status. Pure state behind a
// mutex; the writer that it drives is called without the mutex, one call at a time.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>

namespace monet::server {

// The gRPC stream below an outbox.
class OutboxWriter {
 public:
  virtual ~OutboxWriter() = default;
  // Starts one write; `message` lives until WriteDone is called.
  virtual void Write(const grpc::ByteBuffer* message) = 0;
  // Ends the stream. The last call; the writer may be gone when it returns.
  virtual void Finish(const grpc::Status& status) = 0;
};

// Life: Push…, Open, Push…, Close. Nothing is written before Open, so that a call refused at
// admission sends no message. Thread-safe.
class Outbox {
 public:
  // `capacity`: messages held, the one in flight included; at least 1. `max_bytes`: from so many
  // bytes on there is no room either. The writer must live until its Finish was called.
  Outbox(size_t capacity, size_t max_bytes, OutboxWriter* writer)
      : capacity_(capacity), max_bytes_(max_bytes), writer_(writer) {}

  bool HasRoom() const;
  // Takes a message even when full: the producer asks HasRoom first. Dropped once the stream broke
  // or was closed.
  void Push(grpc::ByteBuffer message);
  // Lets writing begin.
  void Open();
  // Ends the stream with this status after all messages are written. Only the first call counts.
  void Close(grpc::Status status);
  // The write in flight ended; `ok` false: the stream is broken and the rest is dropped.
  // Returns true when room came back, so that a paused producer must be woken.
  bool WriteDone(bool ok);
  // A write has been in flight since before this time: the client takes nothing.
  bool StalledSince(std::chrono::steady_clock::time_point before) const;

 private:
  void Drive();  // starts what can be started
  void Clear();  // drops all messages; with the mutex held

  const size_t capacity_;
  const size_t max_bytes_;
  OutboxWriter* const writer_;
  mutable std::mutex mutex_;
  std::deque<grpc::ByteBuffer> messages_;  // front is in flight while writing_
  size_t bytes_ = 0;                       // of them
  bool open_ = false;
  bool writing_ = false;
  std::chrono::steady_clock::time_point write_started_;  // while writing_
  bool broken_ = false;
  bool finished_ = false;
  mutable bool full_seen_ = false;  // HasRoom said no, and nobody was told of room since
  std::optional<grpc::Status> status_;
};

}  // namespace monet::server
