// From request messages to what the engine takes, with every field checked against
// runtime/limits.h before anything proportional to it is allocated. Pure: no server, no model, no
// clock; unit-tested and fuzzed as it is. Unknown fields are ignored (proto3), but for those of a
// mask; fields that are declared but not implemented are refused, never ignored.
//
// Errors are refusals (runtime/base/reasons.h) with the field's path and its limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "monet/v1/generation.pb.h"
#include "monet/v1/policy.pb.h"
#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "runtime/limits.h"
#include "runtime/policy/registry.h"

namespace monet::server {

// What conversion must know of the served model.
struct ServedShape {
  std::string model_name;
  MaskShape mask;
  int32_t vocabulary = 0;  // V
  int32_t context = 0;     // tokens of prompt and completion together
  // A longer text cannot fit the context, whatever it says: refused before it is tokenised.
  size_t max_text_bytes = limits::kMaxPromptBytes;
};

// The part of a mask that the request chose.
struct MaskChoice {
  std::vector<std::string> policies;
  std::vector<ExplicitExperts> experts;
};

// A checked request. Still missing in `engine`: tenant, mask, deadline, and what FitContext and
// the caller fill: prompt_ids of a text, max_tokens, seed.
struct CallInput {
  EngineRequest engine;
  std::optional<std::string> prompt_text;  // to be tokenised; else engine.prompt_ids is set
  std::optional<int32_t> max_tokens;       // kGenerate
  std::optional<uint64_t> seed;            // kGenerate
  int32_t n = 1;                           // samples to draw
  bool echo = false;                       // kGenerate
  MaskChoice mask;
};

absl::StatusOr<CallInput> ConvertGenerate(const v1::GenerateRequest& request,
                                          const ServedShape& shape);
absl::StatusOr<CallInput> ConvertScore(const v1::ScoreRequest& request, const ServedShape& shape);

// Once engine.prompt_ids is complete: checks it against the context and sets engine.max_tokens.
absl::Status FitContext(const ServedShape& shape, CallInput* input);

absl::Status CheckTokenize(const v1::TokenizeRequest& request);
absl::Status CheckDetokenize(const v1::DetokenizeRequest& request, int32_t vocabulary);
absl::Status CheckPolicyReference(const char* field, const std::string& reference);
// The page size to use: the request's or the default.
absl::StatusOr<int32_t> CheckListPolicies(const v1::ListPoliciesRequest& request);

}  // namespace monet::server
