// The JSON that --json prints, made from the API's messages. Keys come in a fixed order; digests
// and fingerprints are "sha256:…"; scripts rely on these names.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "monet/v1/generation.pb.h"
#include "monet/v1/mask.pb.h"
#include "monet/v1/policy.pb.h"
#include "monet/v1/routing.pb.h"

namespace monet::cli {

using Json = nlohmann::ordered_json;

// One line, with its line feed. Bytes that are not UTF-8 become U+FFFD.
std::string Line(const Json& json);

// [{"name", "version", "digest", "mandatory"}]
Json AppliedPoliciesJson(const google::protobuf::RepeatedPtrField<v1::AppliedPolicy>& policies);
// {"prompt_tokens", "completion_tokens", "cached_tokens"}
Json UsageJson(const v1::Usage& usage);
// [{"token_id", "logprob"}]
Json TopLogprobsJson(const v1::TopLogprobs& top);
// {"position", "router", "active_experts", "removed_weight", "experts": [{"i", "j", "weight",
// "removed"}]}
Json ActivationJson(const v1::TokenActivation& activation);
// A list of them.
Json RoutingJson(const google::protobuf::RepeatedPtrField<v1::TokenActivation>& routing);
// Adds "token_ids", where there is any "routing", and, with `logprobs`, "logprobs" and, where there
// are any, "top_logprobs".
void AddTokens(const v1::Completion& completion, bool logprobs, Json* json);
// {"token_ids", "logprobs"} and, where there are any, "top_logprobs".
Json PromptLogprobsJson(const v1::PromptLogprobs& prompt);
// "stop", "length" or "unspecified".
std::string FinishReasonName(v1::FinishReason reason);
// Adds "request_id", "model", "model_fingerprint", "system_fingerprint".
void AddIdentity(const v1::ResponseHeader& header, Json* json);
// Adds "experts_removed", "experts_total".
void AddRemoved(const v1::AppliedMask& mask, Json* json);
// Adds "finish_reason" and, where set, "stop_text" and "stop_token_id".
void AddFinishReason(const v1::Finish& finish, Json* json);

// One entry of `monetctl policies`.
Json PolicyJson(const v1::Policy& policy);
// `monetctl model`.
Json ModelJson(const v1::GetModelResponse& model);

}  // namespace monet::cli
