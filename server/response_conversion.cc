#include "server/response_conversion.h"

#include <algorithm>
#include <utility>

#include "runtime/limits.h"
#include "server/routing_conversion.h"

namespace monet::server {
namespace {

// Those that no server has of its own: absent unless the tenant has them.
void FillTenantLimits(const TenantLimits& tenant, v1::Limits* out) {
  if (tenant.max_prompt_tokens) out->set_max_prompt_tokens(*tenant.max_prompt_tokens);
  if (tenant.max_tokens) out->set_max_tokens(*tenant.max_tokens);
  if (tenant.requests_per_minute) out->set_requests_per_minute(*tenant.requests_per_minute);
  if (tenant.tokens_per_minute) out->set_tokens_per_minute(*tenant.tokens_per_minute);
  if (tenant.concurrent) out->set_concurrent(*tenant.concurrent);
  if (tenant.distinct_masks) out->set_distinct_masks(*tenant.distinct_masks);
}

// Those in force for the tenant.
void FillLimits(const ServingModel& model, const TenantLimits& tenant, v1::Limits* out) {
  out->set_max_prompt_bytes(limits::kMaxPromptBytes);
  out->set_max_context_tokens(model.shape.context);
  out->set_max_policies(limits::kMaxRequestPolicies);
  out->set_max_explicit_experts(limits::kMaxExplicitExperts);
  out->set_max_stop_texts(limits::kMaxStopStrings);
  out->set_max_stop_text_bytes(limits::kMaxStopStringBytes);
  out->set_max_stop_token_ids(limits::kMaxStopTokenIds);
  out->set_max_waiting_requests(model.engine_options.max_queue);
  out->set_mask_slots(model.step_limits.mask_slots);
  out->set_max_logit_bias(limits::kMaxLogitBias);
  out->set_max_top_logprobs(
      static_cast<int32_t>(tenant.max_top_logprobs.value_or(limits::kMaxTopLogprobs)));
  out->set_max_logprobs(limits::kMaxLogprobs);
  out->set_max_completions(static_cast<int32_t>(tenant.max_n.value_or(limits::kMaxCompletions)));
  out->set_max_priority(static_cast<int32_t>(tenant.max_priority.value_or(0)));
  out->set_max_routing_top_n(limits::kMaxRoutingTopN);
  out->set_max_explain_top_n(limits::kMaxExplainTopN);
  out->set_max_routing_entries(limits::kMaxRoutingEntries);
  out->set_max_chat_messages(limits::kMaxChatMessages);
  FillTenantLimits(tenant, out);
}

void FillTop(const std::vector<SampledToken>& top, v1::TopLogprobs* out) {
  for (const SampledToken& token : top) {
    out->add_token_ids(token.id);
    out->add_logprobs(token.logprob);
  }
}

}  // namespace

void FillAppliedPolicy(const monet::Policy& policy, bool mandatory, v1::AppliedPolicy* out) {
  out->set_name(policy.name);
  out->set_version(policy.version);
  out->set_digest(policy.digest.ToString());
  out->set_mandatory(mandatory);
}

void FillAppliedMask(const ResolvedMask& mask, const PolicySnapshot& snapshot, const Tenant& tenant,
                     v1::AppliedMask* out) {
  for (const auto& policy : mask.policies) {
    FillAppliedPolicy(*policy, IsMandatory(snapshot, tenant, *policy), out->add_policies());
  }
  out->set_digest(mask.mask->digest().ToString());
  out->set_experts_removed(mask.mask->removed());
  out->set_experts_total(mask.mask->shape().Experts());
}

void FillPolicy(const monet::Policy& policy, v1::Policy* out) {
  const ExpertMask& mask = *policy.mask;
  out->set_name(policy.name);
  out->set_version(policy.version);
  out->set_digest(policy.digest.ToString());
  out->set_description(policy.description);
  out->set_model_fingerprint(policy.model.ToString());
  out->set_semantics(policy.semantics);
  out->set_experts_removed(mask.removed());
  out->set_experts_total(mask.shape().Experts());
  out->set_mask_digest(mask.digest().ToString());
  for (int32_t router = 0; router < mask.shape().routers; ++router) {
    out->add_experts_removed_by_router(mask.RemovedIn(router));
  }
}

void FillUsage(const EngineUsage& usage, v1::Usage* out) {
  out->set_prompt_tokens(usage.prompt_tokens);
  out->set_completion_tokens(usage.completion_tokens);
  out->set_cached_tokens(usage.cached_tokens);
}

void FillCompletion(int32_t index, EngineDelta delta, v1::Completion* out) {
  out->set_index(index);
  out->set_text(std::move(delta.text));
  out->mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  out->mutable_logprobs()->Add(delta.logprobs.begin(), delta.logprobs.end());
  for (const auto& top : delta.top_logprobs) FillTop(top, out->add_top_logprobs());
  AddActivations(delta.routing, out->mutable_routing());
}

void AddPromptLogprobs(const PromptLogprobs& prompt, v1::PromptLogprobs* out) {
  out->mutable_token_ids()->Add(prompt.token_ids.begin(), prompt.token_ids.end());
  out->mutable_logprobs()->Add(prompt.logprobs.begin(), prompt.logprobs.end());
  for (const auto& top : prompt.top) FillTop(top, out->add_top_logprobs());
}

void FillFinish(int32_t index, const EngineResult& result, v1::Finish* out) {
  out->set_index(index);
  out->set_finish_reason(result.finish_reason == FinishReason::kStop ? v1::FINISH_REASON_STOP
                                                                     : v1::FINISH_REASON_LENGTH);
  if (!result.stop_string.empty()) out->set_stop_text(result.stop_string);
  if (result.stop_token_id >= 0) out->set_stop_token_id(result.stop_token_id);
  FillUsage(result.usage, out->mutable_usage());
  out->set_removed_weight_share(result.usage.removed_weight_share);
}

void FillModel(const ServingModel& model, const PolicySnapshot& snapshot, const Tenant& tenant,
               v1::GetModelResponse* out) {
  const ModelConfig& config = model.weights->config();
  out->set_name(model.shape.model_name);
  out->set_fingerprint(model.weights->fingerprint().ToString());
  out->set_system_fingerprint(model.system_fingerprint);
  out->set_context_tokens(model.shape.context);
  out->set_vocabulary_size(config.vocabulary);
  out->set_hidden_size(config.hidden);
  out->set_layer_count(config.layers);
  out->set_experts_per_side(config.experts);
  out->set_expert_units(config.moe_dim);
  out->set_routing_heads(config.routing_heads);
  out->set_top_k(config.top_k);
  out->set_decomposition(config.decompose == kernels::Decompose::kVertical
                             ? v1::DECOMPOSITION_VERTICAL
                             : v1::DECOMPOSITION_HORIZONTAL);
  for (int32_t router = 0; router < config.Routers(); ++router) {
    const int32_t first = router * config.group_layers;
    v1::Router* entry = out->add_routers();
    entry->set_router(router);
    entry->set_first_layer(first);
    entry->set_layer_count(std::min(config.group_layers, config.layers - first));
  }
  FillLimits(model, tenant.limits, out->mutable_limits());
  for (const auto& policy : snapshot.policies()) {
    const bool mandatory = IsMandatory(snapshot, tenant, *policy);
    if (mandatory) FillAppliedPolicy(*policy, true, out->add_mandatory_policies());
    if (tenant.Allows(*policy)) {
      FillAppliedPolicy(*policy, mandatory, out->add_allowed_policies());
    }
  }
  out->set_explicit_masks_allowed(tenant.explicit_masks);
  out->set_server_version(MONET_VERSION);
  out->set_chat_template(NameOf(model.shape.chat_template));
}

}  // namespace monet::server
