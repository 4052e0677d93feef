#include "server/generation_service.h"

#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "server/engine_call.h"
#include "server/response_conversion.h"
#include "server/routing_conversion.h"
#include "server/stream_call.h"

namespace monet::server {
namespace {

// A call that runs the model and answers once. Its output is bounded by max_tokens or the prompt,
// so it always has room.
template <typename Response>
class UnaryEngineCall : public EngineCall, public grpc::ServerUnaryReactor {
 public:
  UnaryEngineCall(const ServiceContext& service, const char* method,
                  grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                  grpc::ByteBuffer* response)
      : EngineCall(service, method, context, request), bytes_(response) {}

  using EngineCall::Begin;

 protected:
  bool HasRoom() override { return true; }
  absl::Status Accept(v1::ResponseHeader header, const std::string& /*echo*/,
                      int32_t /*n*/) override {
    *response_.mutable_header() = std::move(header);
    return absl::OkStatus();
  }
  absl::Status TakeEnd() override { return SerializeMessage(response_, bytes_); }

  Response response_;

 private:
  void FinishCall(const grpc::Status& status) override { Finish(status); }
  void OnCancel() override { Cancel(); }
  void OnDone() override { Done(); }

  grpc::ByteBuffer* const bytes_;
};

const char* ReasonLabel(const EngineResult& result) {
  return result.finish_reason == FinishReason::kStop ? "stop" : "length";
}

class GenerateCall final : public UnaryEngineCall<v1::GenerateResponse> {
 public:
  GenerateCall(const ServiceContext& service, grpc::CallbackServerContext* context,
               const grpc::ByteBuffer* request, grpc::ByteBuffer* response)
      : UnaryEngineCall(service, "GenerationService/Generate", context, request, response),
        metrics_(service.metrics) {}

 private:
  absl::StatusOr<CallInput> Parse(const grpc::ByteBuffer& bytes,
                                  const ServedShape& shape) override {
    MONET_ASSIGN_OR_RETURN(const auto request, ParseMessage<v1::GenerateRequest>(bytes));
    NoteRequestId(request.request_id());
    return ConvertGenerate(request, shape);
  }

  absl::Status Accept(v1::ResponseHeader header, const std::string& echo, int32_t n) override {
    outputs_.resize(static_cast<size_t>(n));
    results_.resize(outputs_.size());
    for (EngineDelta& output : outputs_) output.text = echo;
    return UnaryEngineCall::Accept(std::move(header), echo, n);
  }

  void TakeDelta(int32_t sample, EngineDelta delta) override {
    EngineDelta& output = outputs_[static_cast<size_t>(sample)];
    output.text += delta.text;
    output.token_ids.insert(output.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    output.logprobs.insert(output.logprobs.end(), delta.logprobs.begin(), delta.logprobs.end());
    std::move(delta.top_logprobs.begin(), delta.top_logprobs.end(),
              std::back_inserter(output.top_logprobs));
    std::move(delta.routing.begin(), delta.routing.end(), std::back_inserter(output.routing));
    if (!delta.prompt.token_ids.empty()) {
      AddPromptLogprobs(delta.prompt, response_.mutable_prompt_logprobs());
    }
  }

  void TakeResult(int32_t sample, const EngineResult& result) override {
    metrics_->CountFinish(ReasonLabel(result));
    results_[static_cast<size_t>(sample)] = result;
  }

  absl::Status TakeEnd() override {
    for (size_t n = 0; n < outputs_.size(); ++n) {
      const auto index = static_cast<int32_t>(n);
      FillCompletion(index, std::move(outputs_[n]), response_.add_completions());
      FillFinish(index, results_[n], response_.add_finishes());
    }
    return UnaryEngineCall::TakeEnd();
  }

  Metrics* const metrics_;
  std::vector<EngineDelta> outputs_;   // by sample
  std::vector<EngineResult> results_;  // by sample
};

class ScoreCall final : public UnaryEngineCall<v1::ScoreResponse> {
 public:
  ScoreCall(const ServiceContext& service, grpc::CallbackServerContext* context,
            const grpc::ByteBuffer* request, grpc::ByteBuffer* response)
      : UnaryEngineCall(service, "GenerationService/Score", context, request, response),
        metrics_(service.metrics) {}

 private:
  void TakeDelta(int32_t /*sample*/, EngineDelta delta) override {
    response_.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
    response_.mutable_logprobs()->Add(delta.logprobs.begin(), delta.logprobs.end());
    for (float logprob : delta.logprobs) total_ += logprob;
    AddActivations(delta.routing, response_.mutable_routing());
  }

  void TakeResult(int32_t /*sample*/, const EngineResult& result) override {
    metrics_->CountFinish("score");
    response_.set_total_logprob(total_);
    FillUsage(result.usage, response_.mutable_usage());
    response_.set_removed_weight_share(result.usage.removed_weight_share);
  }

  absl::StatusOr<CallInput> Parse(const grpc::ByteBuffer& bytes,
                                  const ServedShape& shape) override {
    MONET_ASSIGN_OR_RETURN(const auto request, ParseMessage<v1::ScoreRequest>(bytes));
    NoteRequestId(request.request_id());
    return ConvertScore(request, shape);
  }

  Metrics* const metrics_;
  double total_ = 0;
};

// Header, deltas, finish.
class GenerateStreamCall final : public StreamCall {
 public:
  GenerateStreamCall(const ServiceContext& service, grpc::CallbackServerContext* context,
                     const grpc::ByteBuffer* request)
      : StreamCall(service, "GenerationService/GenerateStream", context, request),
        metrics_(service.metrics) {}

 private:
  void TakeDelta(int32_t sample, EngineDelta delta) override {
    v1::GenerateStreamResponse message;
    if (!delta.prompt.token_ids.empty()) {
      AddPromptLogprobs(delta.prompt, message.mutable_prompt_logprobs());
      Send(message);
    }
    // What one message cannot hold goes before the tokens.
    const std::vector<TokenActivation> routing = std::exchange(delta.routing, {});
    auto pieces = SplitActivations(routing, limits::kActivationMessageBytes);
    if (delta.token_ids.empty() && pieces.empty()) return;
    if (pieces.empty()) pieces.emplace_back();
    for (size_t n = 0; n < pieces.size(); ++n) {
      const bool last = n + 1 == pieces.size();
      FillCompletion(sample, last ? std::move(delta) : EngineDelta(), message.mutable_delta());
      AddActivations(pieces[n], message.mutable_delta()->mutable_routing());
      Send(message);
      message.Clear();
    }
  }

  void TakeResult(int32_t sample, const EngineResult& result) override {
    metrics_->CountFinish(ReasonLabel(result));
    v1::GenerateStreamResponse message;
    FillFinish(sample, result, message.mutable_finish());
    Send(message);
  }

  absl::StatusOr<CallInput> Parse(const grpc::ByteBuffer& bytes,
                                  const ServedShape& shape) override {
    MONET_ASSIGN_OR_RETURN(const auto request, ParseMessage<v1::GenerateStreamRequest>(bytes));
    NoteRequestId(request.request().request_id());
    return ConvertGenerate(request.request(), shape);
  }

  absl::Status Accept(v1::ResponseHeader header, const std::string& echo, int32_t n) override {
    v1::GenerateStreamResponse message;
    *message.mutable_header() = std::move(header);
    Send(message);
    for (int32_t index = 0; index < n && !echo.empty(); ++index) {
      message.mutable_delta()->set_index(index);
      message.mutable_delta()->set_text(echo);
      Send(message);
    }
    return send_failure();
  }

  Metrics* const metrics_;
};

absl::Status HandleTokenize(const ServingModel& model, const Identity&,
                            const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
  MONET_RETURN_IF_ERROR(CheckTokenize(request));
  MONET_ASSIGN_OR_RETURN(const auto ids, model.tokenizer->Encode(request.text()));
  if (!request.has_add_bos() || request.add_bos()) {
    response->add_token_ids(model.tokenizer->bos_id());
  }
  response->mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status HandleDetokenize(const ServingModel& model, const Identity&,
                              const v1::DetokenizeRequest& request,
                              v1::DetokenizeResponse* response) {
  MONET_RETURN_IF_ERROR(CheckDetokenize(request, model.shape.vocabulary));
  response->set_text(
      model.tokenizer->Decode({request.token_ids().begin(), request.token_ids().end()}));
  return absl::OkStatus();
}

absl::Status HandleGetModel(const ServingModel& model, const Identity& identity,
                            const v1::GetModelRequest&, v1::GetModelResponse* response) {
  FillModel(model, *model.policies->Current(), *identity.tenant, response);
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* GenerationService::Generate(Context* context, const Bytes* request,
                                                      Bytes* response) {
  return StartCall<GenerateCall>(service_, context, request, response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::GenerateStream(
    Context* context, const Bytes* request) {
  return StartCall<GenerateStreamCall>(service_, context, request);
}

grpc::ServerUnaryReactor* GenerationService::Score(Context* context, const Bytes* request,
                                                   Bytes* response) {
  return StartCall<ScoreCall>(service_, context, request, response);
}

grpc::ServerUnaryReactor* GenerationService::Tokenize(Context* context, const Bytes* request,
                                                      Bytes* response) {
  return UnaryCall::Start(service_, "GenerationService/Tokenize", context, request, response,
                          UnaryWork<v1::TokenizeRequest, v1::TokenizeResponse>(HandleTokenize));
}

grpc::ServerUnaryReactor* GenerationService::Detokenize(Context* context, const Bytes* request,
                                                        Bytes* response) {
  return UnaryCall::Start(
      service_, "GenerationService/Detokenize", context, request, response,
      UnaryWork<v1::DetokenizeRequest, v1::DetokenizeResponse>(HandleDetokenize));
}

grpc::ServerUnaryReactor* GenerationService::GetModel(Context* context, const Bytes* request,
                                                      Bytes* response) {
  return UnaryCall::Start(service_, "GenerationService/GetModel", context, request, response,
                          UnaryWork<v1::GetModelRequest, v1::GetModelResponse>(HandleGetModel));
}

}  // namespace monet::server
