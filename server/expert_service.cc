#include "server/expert_service.h"

#include <string>
#include <utility>

#include "server/response_conversion.h"
#include "server/routing_conversion.h"
#include "server/stream_call.h"

namespace monet::server {
namespace {

// Header, activations, usage. What is held for a slow client: the outbox (limits::
// kStreamOutboxBytes and the messages of one step more) and the one step that the paused sequence
// keeps back (limits::kMaxStepActivations).
class ExplainCall final : public StreamCall {
 public:
  ExplainCall(const ServiceContext& service, grpc::CallbackServerContext* context,
              const grpc::ByteBuffer* request)
      : StreamCall(service, "ExpertService/Explain", context, request), metrics_(service.metrics) {}

 private:
  absl::StatusOr<CallInput> Parse(const grpc::ByteBuffer& bytes,
                                  const ServedShape& shape) override {
    MONET_ASSIGN_OR_RETURN(const auto request, ParseMessage<v1::ExplainRequest>(bytes));
    NoteRequestId(request.request_id());
    return ConvertExplain(request, shape);
  }

  absl::Status Accept(v1::ResponseHeader header, const std::string& /*echo*/,
                      int32_t /*n*/) override {
    v1::ExplainResponse message;
    *message.mutable_header() = std::move(header);
    Send(message);
    return send_failure();
  }

  void TakeDelta(int32_t /*sample*/, EngineDelta delta) override {
    auto next_id = delta.token_ids.begin();
    for (const auto piece : SplitActivations(delta.routing, limits::kActivationMessageBytes)) {
      v1::ExplainResponse message;
      for (const TokenActivation& activation : piece) {
        if (activation.router == 0) message.add_token_ids(*next_id++);
      }
      AddActivations(piece, message.mutable_activations());
      Send(message);
    }
  }

  void TakeResult(int32_t /*sample*/, const EngineResult& result) override {
    metrics_->CountFinish("explain");
    v1::ExplainResponse message;
    FillUsage(result.usage, message.mutable_usage());
    message.set_removed_weight_share(result.usage.removed_weight_share);
    Send(message);
  }

  Metrics* const metrics_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* ExpertService::Explain(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return StartCall<ExplainCall>(service_, context, request);
}

}  // namespace monet::server
