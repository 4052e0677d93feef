// What every call of the API shares: messages in and out of byte buffers, one place that turns a
// status into gRPC's and into metrics and a log line, and the reactor of methods that do not run
// the model.
//
// Services take raw byte buffers and parse on the ingress pool: parsing a large request never
// blocks gRPC's callback threads, and bytes that are no message give INVALID_ARGUMENT.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <string>
#include <utility>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "server/admission.h"
#include "server/call_account.h"
#include "server/error_details.h"
#include "server/identity.h"
#include "server/ingress.h"
#include "server/metrics.h"
#include "server/stalled_streams.h"

namespace monet::server {

// What services need of the server. All outlive every call.
struct ServiceContext {
  Admission* admission = nullptr;
  Ingress* ingress = nullptr;
  Metrics* metrics = nullptr;
  StalledStreams* stalled_streams = nullptr;
  Accounting accounting;
};

template <typename Message>
absl::StatusOr<Message> ParseMessage(const grpc::ByteBuffer& bytes) {
  Message message;
  grpc::ByteBuffer copy(bytes);  // shares the slices; parsing consumes the buffer
  if (!grpc::SerializationTraits<Message>::Deserialize(&copy, &message).ok()) {
    return Refuse(Reason::kInvalidMessage, "the request is not a valid {} message",
                  Message().GetTypeName());
  }
  return message;
}

// Errors: RESOURCE_EXHAUSTED when larger than a response may be.
template <typename Message>
absl::Status SerializeMessage(const Message& message, grpc::ByteBuffer* out) {
  const size_t bytes = message.ByteSizeLong();
  if (bytes > limits::kMaxResponseBytes) {
    return Refuse(Reason::kTooLarge, "the response is {} bytes, limit {}", bytes,
                  limits::kMaxResponseBytes);
  }
  bool own = false;
  if (!grpc::SerializationTraits<Message>::Serialize(message, out, &own).ok()) {
    return Error(absl::StatusCode::kInternal, "cannot serialise a response");
  }
  return absl::OkStatus();
}

// The metric label of a refusal; null when the status is no refusal.
const char* RejectionReason(const absl::Status& status);

// The caller's deadline on the engine's clock.
Clock::time_point DeadlineOf(const grpc::ServerContextBase& context);

// A unary call that does not run the model: gate, identity, then `work` on the ingress pool.
// Deletes itself.
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  using Work = std::function<absl::Status(const ServingModel&, const Identity&,
                                          const grpc::ByteBuffer&, grpc::ByteBuffer*)>;

  static UnaryCall* Start(const ServiceContext& service, const char* method,
                          grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                          grpc::ByteBuffer* response, Work work);

 private:
  UnaryCall(const ServiceContext& service, const char* method)
      : service_(service), method_(method), account_(service.accounting, method) {}
  void Begin(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
             grpc::ByteBuffer* response, Work work);
  void End(const absl::Status& status);
  void OnDone() override { delete this; }

  const ServiceContext service_;
  const char* const method_;
  CallAccount account_;
  Admission::Pass pass_;
};

// Work that parses a Request, calls `handle` and serialises the Response.
template <typename Request, typename Response, typename Handle>
UnaryCall::Work UnaryWork(Handle handle) {
  return [handle = std::move(handle)](const ServingModel& model, const Identity& identity,
                                      const grpc::ByteBuffer& in,
                                      grpc::ByteBuffer* out) -> absl::Status {
    MONET_ASSIGN_OR_RETURN(const Request request, ParseMessage<Request>(in));
    Response response;
    MONET_RETURN_IF_ERROR(handle(model, identity, request, &response));
    return SerializeMessage(response, out);
  };
}

}  // namespace monet::server
