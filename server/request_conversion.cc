#include "server/request_conversion.h"

#include <algorithm>
#include <utility>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "server/field_checks.h"
#include "server/routing_conversion.h"
#include "server/sampling_conversion.h"

namespace monet::server {
namespace {

absl::Status CheckModel(bool given, const std::string& name, const ServedShape& shape) {
  if (!given || name == shape.model_name) return absl::OkStatus();
  if (name.size() > limits::kMaxModelNameBytes) {
    return InvalidField("model is {} bytes, limit {}", name.size(), limits::kMaxModelNameBytes);
  }
  return Refuse(Reason::kModelUnknown, "model \"{}\" is not served here; \"{}\" is", Shown(name),
                shape.model_name);
}

// Entries of one repeated field of mask.experts[entry], each in [0, limit).
template <typename T>
absl::Status ConvertIndices(int entry, const char* field,
                            const google::protobuf::RepeatedField<T>& values, int64_t limit,
                            std::vector<int64_t>* out) {
  for (int i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= limit) {
      return InvalidField("mask.experts[{}].{}[{}] is {}, range 0 to {}", entry, field, i,
                          values[i], limit - 1);
    }
  }
  out->assign(values.begin(), values.end());
  return absl::OkStatus();
}

absl::Status ConvertRouterExperts(int entry, const v1::RouterExperts& from, const MaskShape& shape,
                                  ExplicitExperts* to) {
  if (from.router() < 0 || from.router() >= shape.routers) {
    return InvalidField("mask.experts[{}].router is {}, range 0 to {}", entry, from.router(),
                        shape.routers - 1);
  }
  to->router = from.router();
  const int64_t side = shape.experts;
  MONET_RETURN_IF_ERROR(ConvertIndices(entry, "ids", from.ids(), side * side, &to->ids));
  MONET_RETURN_IF_ERROR(ConvertIndices(entry, "rows", from.rows(), side, &to->rows));
  MONET_RETURN_IF_ERROR(ConvertIndices(entry, "columns", from.columns(), side, &to->columns));
  if (from.bitmap().empty()) return absl::OkStatus();
  if (from.bitmap().size() != shape.BytesPerRouter()) {
    return InvalidField("mask.experts[{}].bitmap is {} bytes, expected {}", entry,
                        from.bitmap().size(), shape.BytesPerRouter());
  }
  const int64_t padding = static_cast<int64_t>(shape.BytesPerRouter()) * 8 - side * side;
  if ((static_cast<uint8_t>(from.bitmap().back()) >> (8 - padding)) != 0) {
    return InvalidField("mask.experts[{}].bitmap has padding bits set after expert {}", entry,
                        side * side - 1);
  }
  to->bitmap.assign(from.bitmap().begin(), from.bitmap().end());
  return absl::OkStatus();
}

// A field that this version does not know may name experts to remove: running without them would
// weaken the mask, so here, unlike elsewhere, unknown fields are refused.
absl::Status RefuseUnknownFields(const char* field, const google::protobuf::Message& message) {
  const auto& unknown = message.GetReflection()->GetUnknownFields(message);
  if (unknown.empty()) return absl::OkStatus();
  return Refuse(Reason::kUnsupportedField,
                "{} has field number {}, which this version of the server does not know", field,
                unknown.field(0).number());
}

absl::Status ConvertMask(const v1::MaskSpec& mask, const MaskShape& shape, MaskChoice* out) {
  MONET_RETURN_IF_ERROR(RefuseUnknownFields("mask", mask));
  if (static_cast<size_t>(mask.policies_size()) > limits::kMaxRequestPolicies) {
    return InvalidField("mask.policies has {} entries, limit {}", mask.policies_size(),
                        limits::kMaxRequestPolicies);
  }
  for (int i = 0; i < mask.policies_size(); ++i) {
    const std::string field = fmt::format("mask.policies[{}]", i);
    MONET_RETURN_IF_ERROR(CheckPolicyReference(field.c_str(), mask.policies(i)));
  }
  if (static_cast<size_t>(mask.experts_size()) > limits::kMaxMaskRouterEntries) {
    return InvalidField("mask.experts has {} entries, limit {}", mask.experts_size(),
                        limits::kMaxMaskRouterEntries);
  }
  size_t total = 0;
  for (const v1::RouterExperts& entry : mask.experts()) {
    MONET_RETURN_IF_ERROR(RefuseUnknownFields("mask.experts", entry));
    total += static_cast<size_t>(entry.ids_size()) + static_cast<size_t>(entry.rows_size()) +
             static_cast<size_t>(entry.columns_size());
  }
  if (total > limits::kMaxExplicitExperts) {
    return InvalidField("mask.experts names {} ids, rows and columns, limit {}", total,
                        limits::kMaxExplicitExperts);
  }
  out->policies.assign(mask.policies().begin(), mask.policies().end());
  out->experts.resize(static_cast<size_t>(mask.experts_size()));
  for (int i = 0; i < mask.experts_size(); ++i) {
    MONET_RETURN_IF_ERROR(
        ConvertRouterExperts(i, mask.experts(i), shape, &out->experts[static_cast<size_t>(i)]));
  }
  return absl::OkStatus();
}

absl::Status ConvertStopping(const v1::StopConditions& from, const ServedShape& shape,
                             CallInput* input) {
  if (from.min_tokens() < 0 || from.min_tokens() > shape.context) {
    return InvalidField("stopping.min_tokens is {}, range 0 to {}", from.min_tokens(),
                        shape.context);
  }
  input->engine.min_tokens = from.min_tokens();
  input->engine.ignore_eos = from.ignore_eos();
  if (from.has_max_tokens()) {
    if (from.max_tokens() < 1 || from.max_tokens() > shape.context) {
      return InvalidField("stopping.max_tokens is {}, range 1 to {}", from.max_tokens(),
                          shape.context);
    }
    input->max_tokens = from.max_tokens();
  }
  if (static_cast<size_t>(from.stop_size()) > limits::kMaxStopStrings) {
    return InvalidField("stopping.stop has {} entries, limit {}", from.stop_size(),
                        limits::kMaxStopStrings);
  }
  for (int i = 0; i < from.stop_size(); ++i) {
    const size_t bytes = from.stop(i).size();
    if (bytes == 0) return InvalidField("stopping.stop[{}] is empty", i);
    if (bytes > limits::kMaxStopStringBytes) {
      return InvalidField("stopping.stop[{}] is {} bytes, limit {}", i, bytes,
                          limits::kMaxStopStringBytes);
    }
    if (!IsUtf8(from.stop(i))) return InvalidField("stopping.stop[{}] is not valid UTF-8", i);
  }
  if (static_cast<size_t>(from.stop_token_ids_size()) > limits::kMaxStopTokenIds) {
    return InvalidField("stopping.stop_token_ids has {} entries, limit {}",
                        from.stop_token_ids_size(), limits::kMaxStopTokenIds);
  }
  for (int i = 0; i < from.stop_token_ids_size(); ++i) {
    MONET_RETURN_IF_ERROR(
        CheckTokenId("stopping.stop_token_ids", i, from.stop_token_ids(i), shape.vocabulary));
  }
  input->engine.stop_strings.assign(from.stop().begin(), from.stop().end());
  input->engine.stop_token_ids.assign(from.stop_token_ids().begin(), from.stop_token_ids().end());
  return absl::OkStatus();
}

absl::Status CheckLogprobCount(const CallInput& input) {
  const EngineRequest& request = input.engine;
  int64_t tokens = request.logprobs ? int64_t{request.max_tokens} * input.n : 0;
  if (request.prompt_logprobs) tokens += std::ssize(request.prompt_ids);
  const int64_t count = tokens * (1 + request.top_logprobs);
  if (count > limits::kMaxLogprobs) {
    return InvalidField(
        "logprob_options ask for {} log-probabilities of {} tokens, limit {}: lower top_logprobs, "
        "stopping.max_tokens or n",
        count, tokens, limits::kMaxLogprobs);
  }
  return absl::OkStatus();
}

absl::Status ConvertLogprobs(const v1::LogprobOptions& from, CallInput* input) {
  if (from.top_logprobs() < 0 || from.top_logprobs() > limits::kMaxTopLogprobs) {
    return InvalidField("logprob_options.top_logprobs is {}, range 0 to {}", from.top_logprobs(),
                        limits::kMaxTopLogprobs);
  }
  if (from.top_logprobs() > 0 && !from.logprobs() && !from.prompt_logprobs()) {
    return InvalidField("logprob_options.top_logprobs needs logprobs or prompt_logprobs");
  }
  input->engine.logprobs = from.logprobs();
  input->engine.top_logprobs = from.top_logprobs();
  input->engine.prompt_logprobs = from.prompt_logprobs();
  return absl::OkStatus();
}

// What a prompt that may be cut leaves to the completion: max_tokens, or without it as much as its
// default would like, but no more than half of the context. Never more than the caller may send.
int32_t PromptRoom(const ServedShape& shape, const CallInput& input) {
  int32_t completion = 0;
  if (input.engine.kind == EngineRequest::Kind::kGenerate) {
    const auto wanted =
        static_cast<int32_t>(std::min<int64_t>(input.default_max_tokens, shape.context / 2));
    completion = input.max_tokens.value_or(wanted);
  }
  return static_cast<int32_t>(
      std::min<int64_t>(shape.context - completion, input.max_prompt_tokens));
}

// The fields that all calls of the model share.
template <typename Request>
absl::Status ConvertCommon(const Request& request, const ServedShape& shape, CallInput* input) {
  MONET_RETURN_IF_ERROR(CheckModel(request.has_model(), request.model(), shape));
  if (request.has_request_id()) {
    MONET_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
    input->engine.request_id = request.request_id();
  }
  if (request.priority() < 0 || request.priority() > limits::kMaxPriority) {
    return InvalidField("priority is {}, range 0 to {}", request.priority(), limits::kMaxPriority);
  }
  input->engine.priority = request.priority();
  MONET_ASSIGN_OR_RETURN(input->prompt, ConvertPrompt(request.prompt(), shape));
  return ConvertMask(request.mask(), shape.mask, &input->mask);
}

template <typename Request>
absl::Status ConvertReturnRouting(const Request& request, EngineRequest* engine) {
  if (!request.has_return_routing()) return absl::OkStatus();
  MONET_ASSIGN_OR_RETURN(engine->routing, ConvertRoutingOptions(request.return_routing()));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CallInput> ConvertGenerate(const v1::GenerateRequest& request,
                                          const ServedShape& shape) {
  CallInput input;
  input.engine.kind = EngineRequest::Kind::kGenerate;
  if (request.has_n()) {
    if (request.n() < 1 || request.n() > limits::kMaxCompletions) {
      return InvalidField("n is {}, range 1 to {}", request.n(), limits::kMaxCompletions);
    }
    input.n = request.n();
  }
  input.echo = request.echo();
  MONET_RETURN_IF_ERROR(
      ConvertSamplingParams(request.sampling(), shape.vocabulary, &input.engine.sampling));
  if (request.sampling().has_seed()) input.seed = request.sampling().seed();
  MONET_RETURN_IF_ERROR(ConvertStopping(request.stopping(), shape, &input));
  MONET_RETURN_IF_ERROR(ConvertLogprobs(request.logprob_options(), &input));
  MONET_RETURN_IF_ERROR(ConvertReturnRouting(request, &input.engine));
  MONET_RETURN_IF_ERROR(ConvertCommon(request, shape, &input));
  return input;
}

absl::StatusOr<CallInput> ConvertScore(const v1::ScoreRequest& request, const ServedShape& shape) {
  CallInput input;
  input.engine.kind = EngineRequest::Kind::kScore;
  input.engine.logprobs = true;
  MONET_RETURN_IF_ERROR(ConvertReturnRouting(request, &input.engine));
  MONET_RETURN_IF_ERROR(ConvertCommon(request, shape, &input));
  return input;
}

absl::StatusOr<CallInput> ConvertExplain(const v1::ExplainRequest& request,
                                         const ServedShape& shape) {
  CallInput input;
  input.engine.kind = EngineRequest::Kind::kExplain;
  MONET_ASSIGN_OR_RETURN(input.engine.routing, ConvertExplainOptions(request));
  MONET_RETURN_IF_ERROR(ConvertCommon(request, shape, &input));
  return input;
}

absl::Status FitPrompt(const ServedShape& shape, const Tokenizer& tokenizer, CallInput* input) {
  MONET_ASSIGN_OR_RETURN(PromptTokens tokens,
                         TokenizePrompt(input->prompt, tokenizer, PromptRoom(shape, *input)));
  if (input->echo) input->echo_text = PromptText(input->prompt, tokens, tokenizer);
  input->prompt = PromptInput();
  input->engine.prompt_ids = std::move(tokens.ids);
  input->truncated_tokens = tokens.truncated;
  return FitContext(shape, input);
}

absl::Status FitContext(const ServedShape& shape, CallInput* input) {
  const int64_t prompt = static_cast<int64_t>(input->engine.prompt_ids.size());
  if (input->engine.kind != EngineRequest::Kind::kGenerate) {
    const bool score = input->engine.kind == EngineRequest::Kind::kScore;
    const int64_t least = score ? 2 : 1;
    if (prompt < least || prompt > shape.context) {
      return Refuse(prompt < least ? Reason::kInvalidField : Reason::kContextTooLong,
                    "prompt is {} tokens, range {} to {}", prompt, least, shape.context);
    }
    if (!score) return absl::OkStatus();  // streamed: no limit in all
    return CheckRoutingEntries(input->engine, shape.mask.routers, 1);
  }
  if (prompt < 1 || prompt > shape.context - 1) {
    return Refuse(prompt < 1 ? Reason::kInvalidField : Reason::kContextTooLong,
                  "prompt is {} tokens, range 1 to {}: one of the context's {} is for the "
                  "completion",
                  prompt, shape.context - 1, shape.context);
  }
  const int64_t rest = shape.context - prompt;
  const int64_t wanted = input->max_tokens.value_or(std::min(input->default_max_tokens, rest));
  if (wanted > rest) {
    return Refuse(Reason::kContextTooLong,
                  "prompt is {} tokens and stopping.max_tokens {}: together {}, limit {}", prompt,
                  wanted, prompt + wanted, shape.context);
  }
  if (input->engine.min_tokens > wanted) {
    return InvalidField("stopping.min_tokens is {}, range 0 to {}, which is max_tokens",
                        input->engine.min_tokens, wanted);
  }
  input->engine.max_tokens = static_cast<int32_t>(wanted);
  MONET_RETURN_IF_ERROR(CheckRoutingEntries(input->engine, shape.mask.routers, input->n));
  return CheckLogprobCount(*input);
}

absl::Status CheckRequestId(const std::string& id) {
  if (id.empty() || id.size() > limits::kMaxRequestIdBytes) {
    return InvalidField("request_id is {} bytes, range 1 to {}", id.size(),
                        limits::kMaxRequestIdBytes);
  }
  if (!std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < 0x7f; })) {
    return InvalidField("request_id must be visible ASCII characters");
  }
  return absl::OkStatus();
}

absl::Status CheckTokenize(const v1::TokenizeRequest& request) {
  return CheckText("text", request.text());
}

absl::Status CheckDetokenize(const v1::DetokenizeRequest& request, int32_t vocabulary) {
  if (static_cast<size_t>(request.token_ids_size()) > limits::kMaxDetokenizeIds) {
    return InvalidField("token_ids has {} entries, limit {}", request.token_ids_size(),
                        limits::kMaxDetokenizeIds);
  }
  for (int i = 0; i < request.token_ids_size(); ++i) {
    MONET_RETURN_IF_ERROR(CheckTokenId("token_ids", i, request.token_ids(i), vocabulary));
  }
  return absl::OkStatus();
}

absl::Status CheckPolicyReference(const char* field, const std::string& reference) {
  if (reference.empty() || reference.size() > limits::kMaxPolicyReferenceBytes) {
    return InvalidField("{} is {} bytes, range 1 to {}", field, reference.size(),
                        limits::kMaxPolicyReferenceBytes);
  }
  const std::string_view name = std::string_view(reference).substr(0, reference.find('@'));
  if (!IsPolicyName(name)) {
    return InvalidField("{} is \"{}\", expected NAME, NAME@VERSION or NAME@sha256:DIGEST", field,
                        Shown(reference));
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> CheckListPolicies(const v1::ListPoliciesRequest& request) {
  if (!request.has_page_size()) return limits::kMaxPolicyPage;
  if (request.page_size() < 1 || request.page_size() > limits::kMaxPolicyPage) {
    return InvalidField("page_size is {}, range 1 to {}", request.page_size(),
                        limits::kMaxPolicyPage);
  }
  return request.page_size();
}

}  // namespace monet::server
