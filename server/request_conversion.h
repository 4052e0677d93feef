// From request messages to what the engine takes, with every field checked against
// runtime/limits.h before anything proportional to it is allocated. Pure: no server, no model, no
// clock; unit-tested and fuzzed as it is. Unknown fields are ignored (proto3), but for those of a
// mask; fields that are declared but not implemented are refused, never ignored.
//
// Errors are refusals (runtime/base/reasons.h) with the field's path and its limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "monet/v1/expert.pb.h"
#include "monet/v1/generation.pb.h"
#include "monet/v1/policy.pb.h"
#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "runtime/policy/registry.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/prompt_conversion.h"
#include "server/served_shape.h"

namespace monet::server {

// The part of a mask that the request chose.
struct MaskChoice {
  std::vector<std::string> policies;
  std::vector<ExplicitExperts> experts;
};

// A checked request. Still missing in `engine`: tenant, mask, deadline, seed, and what FitPrompt
// fills: prompt_ids, max_tokens.
struct CallInput {
  EngineRequest engine;
  PromptInput prompt;
  std::optional<int32_t> max_tokens;                       // kGenerate
  int64_t default_max_tokens = limits::kDefaultMaxTokens;  // at most, where max_tokens is absent
  int64_t max_prompt_tokens = INT64_MAX;  // of a prompt that may be cut and does not say how many
  std::optional<uint64_t> seed;           // kGenerate
  int32_t n = 1;                          // samples to draw
  bool echo = false;                      // kGenerate
  std::string echo_text;                  // what echo returns; FitPrompt fills it
  int32_t truncated_tokens = 0;           // of the prompt; FitPrompt fills it
  MaskChoice mask;
};

absl::StatusOr<CallInput> ConvertGenerate(const v1::GenerateRequest& request,
                                          const ServedShape& shape);
absl::StatusOr<CallInput> ConvertScore(const v1::ScoreRequest& request, const ServedShape& shape);
absl::StatusOr<CallInput> ConvertExplain(const v1::ExplainRequest& request,
                                         const ServedShape& shape);

// Tokenises the prompt, cuts it if it may be cut, and lets go of its text; then FitContext. Takes
// time in proportion to the prompt's text.
absl::Status FitPrompt(const ServedShape& shape, const Tokenizer& tokenizer, CallInput* input);

// Once engine.prompt_ids is complete: checks it against the context and sets engine.max_tokens.
absl::Status FitContext(const ServedShape& shape, CallInput* input);

absl::Status CheckRequestId(const std::string& id);
absl::Status CheckTokenize(const v1::TokenizeRequest& request);
absl::Status CheckDetokenize(const v1::DetokenizeRequest& request, int32_t vocabulary);
absl::Status CheckPolicyReference(const char* field, const std::string& reference);
// The page size to use: the request's or the default.
absl::StatusOr<int32_t> CheckListPolicies(const v1::ListPoliciesRequest& request);

}  // namespace monet::server
