#include "cli/json_shapes.h"

#include <algorithm>

namespace monet::cli {
namespace {

Json LimitsJson(const v1::Limits& limits) {
  Json json = {{"max_prompt_bytes", limits.max_prompt_bytes()},
               {"max_context_tokens", limits.max_context_tokens()},
               {"max_policies", limits.max_policies()},
               {"max_explicit_experts", limits.max_explicit_experts()},
               {"max_stop_texts", limits.max_stop_texts()},
               {"max_stop_text_bytes", limits.max_stop_text_bytes()},
               {"max_stop_token_ids", limits.max_stop_token_ids()},
               {"max_waiting_requests", limits.max_waiting_requests()},
               {"mask_slots", limits.mask_slots()},
               {"max_logit_bias", limits.max_logit_bias()},
               {"max_top_logprobs", limits.max_top_logprobs()},
               {"max_logprobs", limits.max_logprobs()},
               {"max_completions", limits.max_completions()},
               {"max_routing_top_n", limits.max_routing_top_n()},
               {"max_explain_top_n", limits.max_explain_top_n()},
               {"max_routing_entries", limits.max_routing_entries()},
               {"max_chat_messages", limits.max_chat_messages()},
               {"max_priority", limits.max_priority()}};
  // Absent: none of the tenant's own.
  if (limits.has_max_prompt_tokens()) json["max_prompt_tokens"] = limits.max_prompt_tokens();
  if (limits.has_max_tokens()) json["max_tokens"] = limits.max_tokens();
  if (limits.has_requests_per_minute()) json["requests_per_minute"] = limits.requests_per_minute();
  if (limits.has_tokens_per_minute()) json["tokens_per_minute"] = limits.tokens_per_minute();
  if (limits.has_concurrent()) json["concurrent"] = limits.concurrent();
  if (limits.has_distinct_masks()) json["distinct_masks"] = limits.distinct_masks();
  return json;
}

std::string DecompositionName(v1::Decomposition decomposition) {
  switch (decomposition) {
    case v1::DECOMPOSITION_VERTICAL:
      return "vertical";
    case v1::DECOMPOSITION_HORIZONTAL:
      return "horizontal";
    default:
      return "unspecified";
  }
}

void AddTop(const google::protobuf::RepeatedPtrField<v1::TopLogprobs>& list, Json* json) {
  if (list.empty()) return;
  (*json)["top_logprobs"] = Json::array();
  for (const v1::TopLogprobs& top : list) (*json)["top_logprobs"].push_back(TopLogprobsJson(top));
}

}  // namespace

std::string Line(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

Json AppliedPoliciesJson(const google::protobuf::RepeatedPtrField<v1::AppliedPolicy>& policies) {
  Json list = Json::array();
  for (const v1::AppliedPolicy& policy : policies) {
    list.push_back(Json{{"name", policy.name()},
                        {"version", policy.version()},
                        {"digest", policy.digest()},
                        {"mandatory", policy.mandatory()}});
  }
  return list;
}

Json UsageJson(const v1::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"cached_tokens", usage.cached_tokens()}};
}

Json TopLogprobsJson(const v1::TopLogprobs& top) {
  Json list = Json::array();
  for (int n = 0; n < std::min(top.token_ids_size(), top.logprobs_size()); ++n) {
    list.push_back(Json{{"token_id", top.token_ids(n)}, {"logprob", top.logprobs(n)}});
  }
  return list;
}

Json ActivationJson(const v1::TokenActivation& activation) {
  Json json = {{"position", activation.position()},
               {"router", activation.router()},
               {"active_experts", activation.active_experts()},
               {"removed_weight", activation.removed_weight()}};
  json["experts"] = Json::array();
  for (const v1::ExpertActivation& expert : activation.experts()) {
    json["experts"].push_back(Json{{"i", expert.i()},
                                   {"j", expert.j()},
                                   {"weight", expert.weight()},
                                   {"removed", expert.removed()}});
  }
  return json;
}

Json RoutingJson(const google::protobuf::RepeatedPtrField<v1::TokenActivation>& routing) {
  Json list = Json::array();
  for (const v1::TokenActivation& activation : routing) list.push_back(ActivationJson(activation));
  return list;
}

void AddTokens(const v1::Completion& completion, bool logprobs, Json* json) {
  (*json)["token_ids"] = completion.token_ids();
  if (!completion.routing().empty()) (*json)["routing"] = RoutingJson(completion.routing());
  if (!logprobs) return;
  (*json)["logprobs"] = completion.logprobs();
  AddTop(completion.top_logprobs(), json);
}

Json PromptLogprobsJson(const v1::PromptLogprobs& prompt) {
  Json json;
  json["token_ids"] = prompt.token_ids();
  json["logprobs"] = prompt.logprobs();
  AddTop(prompt.top_logprobs(), &json);
  return json;
}

std::string FinishReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    default:
      return "unspecified";
  }
}

void AddIdentity(const v1::ResponseHeader& header, Json* json) {
  (*json)["request_id"] = header.request_id();
  (*json)["model"] = header.model();
  (*json)["model_fingerprint"] = header.model_fingerprint();
  (*json)["system_fingerprint"] = header.system_fingerprint();
}

void AddRemoved(const v1::AppliedMask& mask, Json* json) {
  (*json)["experts_removed"] = mask.experts_removed();
  (*json)["experts_total"] = mask.experts_total();
}

void AddFinishReason(const v1::Finish& finish, Json* json) {
  (*json)["finish_reason"] = FinishReasonName(finish.finish_reason());
  if (finish.has_stop_text()) (*json)["stop_text"] = finish.stop_text();
  if (finish.has_stop_token_id()) (*json)["stop_token_id"] = finish.stop_token_id();
}

Json PolicyJson(const v1::Policy& policy) {
  Json json = {{"name", policy.name()},
               {"version", policy.version()},
               {"digest", policy.digest()},
               {"description", policy.description()},
               {"model_fingerprint", policy.model_fingerprint()},
               {"semantics", policy.semantics()},
               {"experts_removed", policy.experts_removed()},
               {"experts_total", policy.experts_total()},
               {"mask_digest", policy.mask_digest()}};
  json["experts_removed_by_router"] = Json::array();
  for (int64_t removed : policy.experts_removed_by_router()) {
    json["experts_removed_by_router"].push_back(removed);
  }
  return json;
}

Json ModelJson(const v1::GetModelResponse& model) {
  Json json = {{"name", model.name()},
               {"fingerprint", model.fingerprint()},
               {"system_fingerprint", model.system_fingerprint()},
               {"server_version", model.server_version()},
               {"context_tokens", model.context_tokens()},
               {"vocabulary_size", model.vocabulary_size()},
               {"hidden_size", model.hidden_size()},
               {"layer_count", model.layer_count()},
               {"experts_per_side", model.experts_per_side()},
               {"expert_units", model.expert_units()},
               {"routing_heads", model.routing_heads()},
               {"top_k", model.top_k()},
               {"decomposition", DecompositionName(model.decomposition())}};
  json["routers"] = Json::array();
  for (const v1::Router& router : model.routers()) {
    json["routers"].push_back(Json{{"router", router.router()},
                                   {"first_layer", router.first_layer()},
                                   {"layer_count", router.layer_count()}});
  }
  json["limits"] = LimitsJson(model.limits());
  json["mandatory_policies"] = AppliedPoliciesJson(model.mandatory_policies());
  json["allowed_policies"] = AppliedPoliciesJson(model.allowed_policies());
  json["explicit_masks_allowed"] = model.explicit_masks_allowed();
  json["chat_template"] = model.chat_template();
  return json;
}

}  // namespace monet::cli
