// A streaming call that runs the model: messages go through a bounded outbox, so that the engine
// never waits for the client and a client that takes nothing is cut off.
#pragma once

#include <utility>

#include "server/engine_call.h"
#include "server/outbox.h"

namespace monet::server {

// A subclass parses, and turns header, deltas and results into messages for Send.
class StreamCall : public EngineCall,
                   public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                   public StalledStreams::Stream,
                   private OutboxWriter {
 public:
  using EngineCall::Begin;
  void EndIfStalledSince(Clock::time_point before) override;

 protected:
  StreamCall(const ServiceContext& service, const char* method,
             grpc::CallbackServerContext* context, const grpc::ByteBuffer* request);

  // From Accept and Take… alone: those are never concurrent. A message that cannot be sent ends the
  // call.
  template <typename Message>
  void Send(const Message& message) {
    grpc::ByteBuffer bytes;
    const absl::Status status = SerializeMessage(message, &bytes);
    Push(status, std::move(bytes));
  }
  // Of Send.
  const absl::Status& send_failure() const { return failure_; }

 private:
  void Push(const absl::Status& status, grpc::ByteBuffer bytes);

  bool HasRoom() override { return outbox_.HasRoom(); }
  absl::Status TakeEnd() override { return failure_; }
  void Started() override;

  void FinishCall(const grpc::Status& status) override { outbox_.Close(status); }
  void Write(const grpc::ByteBuffer* message) override { StartWrite(message); }
  void Finish(const grpc::Status& status) override {
    grpc::ServerWriteReactor<grpc::ByteBuffer>::Finish(status);
  }

  void OnWriteDone(bool ok) override;
  void OnCancel() override { Cancel(); }
  void OnDone() override { Done(); }

  StalledStreams* const stalled_streams_;
  Outbox outbox_;
  absl::Status failure_;
};

}  // namespace monet::server
