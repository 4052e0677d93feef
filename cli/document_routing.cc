#include "cli/document_routing.h"

#include <algorithm>
#include <span>
#include <vector>

#include "cli/exit_status.h"
#include "cli/windows.h"
#include "runtime/limits.h"

namespace monet::cli {
namespace {

absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text, bool add_bos,
                                              Connection* connection) {
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_add_bos(add_bos);
  v1::TokenizeResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().Tokenize(context, request, &response);
  }));
  return std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
}

// Takes the messages of one window's explanation.
class WindowRouting {
 public:
  WindowRouting(const ServedModel& model, DocumentRouting* routing)
      : model_(model), routing_(routing) {}

  absl::Status Take(const v1::ExplainResponse& message) {
    if (message.has_header()) MONET_RETURN_IF_ERROR(CheckHeader(message.header()));
    for (const v1::TokenActivation& activation : message.activations()) {
      MONET_RETURN_IF_ERROR(TakeActivation(activation));
    }
    finished_ = finished_ || message.has_usage();
    return absl::OkStatus();
  }

  // `tokens`: of the window, <s> included.
  absl::Status Finish(int64_t tokens) const {
    if (finished_ && has_header_ && next_ == tokens * model_.shape.routers) return absl::OkStatus();
    return BadAnswer("the routing of {} of {} tokens", next_ / model_.shape.routers, tokens);
  }

 private:
  absl::Status CheckHeader(const v1::ResponseHeader& header) {
    has_header_ = true;
    if (header.mask().policies_size() > 0 || header.mask().experts_removed() > 0) {
      return MarkCallFailed(
          Error(absl::StatusCode::kFailedPrecondition,
                "the server adds policies to this caller's calls, so that what it routes is not "
                "the whole model's; collect with a key of a tenant that has none"));
    }
    if (header.model_fingerprint() == model_.fingerprint &&
        header.system_fingerprint() == model_.system) {
      return absl::OkStatus();
    }
    return MarkCallFailed(
        Error(absl::StatusCode::kAborted, "another model or build answers than at the beginning"));
  }

  absl::Status TakeActivation(const v1::TokenActivation& activation) {
    const int32_t router = activation.router();
    if (router != next_ % model_.shape.routers ||
        activation.position() != next_ / model_.shape.routers) {
      return BadAnswer("position {} and router {} out of turn", activation.position(), router);
    }
    ++next_;
    if (activation.position() == 0) return absl::OkStatus();  // <s>, the same in every document
    if (router == 0) routing_->AddToken();
    if (activation.active_experts() != activation.experts_size()) {
      return MarkCallFailed(Error(absl::StatusCode::kOutOfRange,
                                  "a token has {} active experts in a router, of which Explain "
                                  "tells {}",
                                  activation.active_experts(), activation.experts_size()));
    }
    for (const v1::ExpertActivation& expert : activation.experts()) {
      const bool is_valid = expert.i() >= 0 && expert.i() < model_.shape.experts &&
                            expert.j() >= 0 && expert.j() < model_.shape.experts &&
                            expert.weight() >= 0 && expert.weight() <= kMaxCollectedWeight;
      if (!is_valid) {
        return BadAnswer("expert r{}/{}/{} with weight {}", router, expert.i(), expert.j(),
                         expert.weight());
      }
      routing_->Add(router, expert.i(), expert.j(), static_cast<double>(expert.weight()));
    }
    return absl::OkStatus();
  }

  const ServedModel& model_;
  DocumentRouting* const routing_;
  bool has_header_ = false;
  bool finished_ = false;
  int64_t next_ = 0;  // position · R + router
};

absl::Status AddWindow(const ServedModel& model, std::span<const int32_t> window,
                       Connection* connection, DocumentRouting* routing) {
  v1::ExplainRequest request;
  auto* ids = request.mutable_prompt()->mutable_token_ids()->mutable_ids();
  ids->Add(model.bos);
  ids->Add(window.begin(), window.end());
  request.set_top_n(limits::kMaxExplainTopN);
  WindowRouting answer(model, routing);
  MONET_RETURN_IF_ERROR(connection->Call([&](grpc::ClientContext* context) -> absl::Status {
    const auto stream = connection->expert().Explain(context, request);
    v1::ExplainResponse message;
    absl::Status taken;
    while (taken.ok() && stream->Read(&message)) taken = answer.Take(message);
    if (!taken.ok()) context->TryCancel();
    const grpc::Status ended = stream->Finish();
    return taken.ok() ? FromCall(ended) : taken;
  }));
  return answer.Finish(std::ssize(window) + 1);
}

}  // namespace

absl::StatusOr<ServedModel> AskServedModel(Connection* connection) {
  v1::GetModelResponse answer;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().GetModel(context, v1::GetModelRequest(), &answer);
  }));
  ServedModel model;
  model.fingerprint = answer.fingerprint();
  model.system = answer.system_fingerprint();
  model.shape = {answer.routers_size(), answer.experts_per_side()};
  model.context = answer.context_tokens();
  const v1::Limits& limits = answer.limits();
  if (limits.max_context_tokens() > 0) {
    model.context = std::min(model.context, limits.max_context_tokens());
  }
  model.max_prompt_bytes = limits.max_prompt_bytes();
  if (!model.shape.IsValid() || model.context < 2) return BadAnswer("a model without shape");
  MONET_ASSIGN_OR_RETURN(const std::vector<int32_t> bos, Tokenize("", true, connection));
  if (bos.size() != 1) return BadAnswer("an empty text has {} tokens instead of <s>", bos.size());
  model.bos = bos[0];
  return model;
}

absl::Status AddDocument(const ServedModel& model, const std::string& text, Connection* connection,
                         DocumentRouting* routing) {
  MONET_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, Tokenize(text, false, connection));
  if (ids.empty()) return BadAnswer("a text has no tokens");
  for (const std::span<const int32_t> window : ScoreWindows(ids, model.context)) {
    MONET_RETURN_IF_ERROR(AddWindow(model, window, connection, routing));
  }
  return absl::OkStatus();
}

}  // namespace monet::cli
