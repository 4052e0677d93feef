#include "server/stream_call.h"

#include <memory>
#include <utility>

namespace monet::server {

StreamCall::StreamCall(const ServiceContext& service, const char* method,
                       grpc::CallbackServerContext* context, const grpc::ByteBuffer* request)
    : EngineCall(service, method, context, request),
      stalled_streams_(service.stalled_streams),
      outbox_(limits::kStreamOutboxMessages, limits::kStreamOutboxBytes, this) {}

void StreamCall::EndIfStalledSince(Clock::time_point before) {
  if (outbox_.StalledSince(before)) BreakOff();
}

void StreamCall::Started() {
  stalled_streams_->Watch(std::static_pointer_cast<StreamCall>(shared_from_this()));
  outbox_.Open();
}

void StreamCall::Push(const absl::Status& status, grpc::ByteBuffer bytes) {
  if (status.ok()) {
    outbox_.Push(std::move(bytes));
  } else if (failure_.ok()) {
    failure_ = status;
  }
}

void StreamCall::OnWriteDone(bool ok) {
  if (outbox_.WriteDone(ok)) Resume();
  if (!ok) Cancel();
}

}  // namespace monet::server
