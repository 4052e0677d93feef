// Any bytes as a request: conversion returns a status that names a field or an input within the
// limits, never anything else. Prompts are tokenised and cut as in the server.
#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <random>
#include <string>
#include <utility>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "server/request_conversion.h"
#include "tests/fuzz/message_mutator.h"
#include "tests/server/demo_tokenizer.h"

namespace {

const monet::server::ServedShape& Shape() {
  static const monet::server::ServedShape shape = {
      "demo", monet::MaskShape{2, 5},         100,
      32,     monet::limits::kMaxPromptBytes, monet::server::ChatTemplate::kLlama2};
  return shape;
}

void Require(bool held) {
  if (!held) std::abort();
}

void CheckInput(const monet::server::ServedShape& shape, monet::server::CallInput input) {
  Require(input.engine.stop_strings.size() <= monet::limits::kMaxStopStrings);
  Require(input.mask.policies.size() <= monet::limits::kMaxRequestPolicies);
  for (const monet::ExplicitExperts& experts : input.mask.experts) {
    Require(experts.router >= 0 && experts.router < shape.mask.routers);
    Require(experts.bitmap.empty() || experts.bitmap.size() == shape.mask.BytesPerRouter());
  }
  if (input.engine.routing) {
    const bool explain = input.engine.kind == monet::EngineRequest::Kind::kExplain;
    const monet::RoutingSelection& routing = *input.engine.routing;
    Require(routing.top_n >= 1);
    Require(routing.top_n <=
            (explain ? monet::limits::kMaxExplainTopN : monet::limits::kMaxRoutingTopN));
    Require(routing.min_weight >= 0 && routing.min_weight <= monet::limits::kMaxRoutingMinWeight);
  }
  Require(monet::CheckSamplingParams(input.engine.sampling, shape.vocabulary).ok());
  static const monet::Tokenizer& tokenizer = monet::server::DemoTokenizer();
  if (!monet::server::FitPrompt(shape, tokenizer, &input).ok()) return;
  Require(std::ssize(input.engine.prompt_ids) <= shape.context && input.truncated_tokens >= 0);
  for (int32_t id : input.engine.prompt_ids) Require(id >= 0 && id < tokenizer.vocabulary());
  if (input.engine.routing && input.engine.kind != monet::EngineRequest::Kind::kExplain) {
    const int64_t tokens = std::ssize(input.engine.prompt_ids) +
                           int64_t{input.n} * std::max(input.engine.max_tokens, 0);
    Require(tokens * shape.mask.routers * input.engine.routing->top_n <=
            monet::limits::kMaxRoutingEntries);
  }
  if (input.engine.kind == monet::EngineRequest::Kind::kGenerate) {
    Require(input.engine.max_tokens >= 1);
    Require(input.engine.min_tokens >= 0 && input.engine.min_tokens <= input.engine.max_tokens);
    Require(static_cast<int32_t>(input.engine.prompt_ids.size()) + input.engine.max_tokens <=
            shape.context);
  }
}

// `status` of a check, or of a conversion that failed: a refusal names its field.
void CheckStatus(const absl::Status& status) {
  Require(status.ok() || !monet::FieldOf(status).empty());
}

void CheckConverted(absl::StatusOr<monet::server::CallInput> input) {
  CheckStatus(input.status());
  if (input.ok()) CheckInput(Shape(), *std::move(input));
}

void Handle(const monet::v1::GenerateRequest& request) {
  CheckConverted(monet::server::ConvertGenerate(request, Shape()));
}
void Handle(const monet::v1::ScoreRequest& request) {
  CheckConverted(monet::server::ConvertScore(request, Shape()));
}
void Handle(const monet::v1::ExplainRequest& request) {
  CheckConverted(monet::server::ConvertExplain(request, Shape()));
}
void Handle(const monet::v1::TokenizeRequest& request) {
  CheckStatus(monet::server::CheckTokenize(request));
}
void Handle(const monet::v1::DetokenizeRequest& request) {
  CheckStatus(monet::server::CheckDetokenize(request, Shape().vocabulary));
}
void Handle(const monet::v1::ListPoliciesRequest& request) {
  CheckStatus(monet::server::CheckListPolicies(request).status());
}
void Handle(const monet::v1::GetPolicyRequest& request) {
  CheckStatus(monet::server::CheckPolicyReference("policy", request.policy()));
}

// Calls `use` with every kind of request that the bytes are. A new kind is one more type in
// EveryRequest and its Handle above.
template <typename... Requests, typename Use>
void ParseAs(const uint8_t* data, size_t size, Use use) {
  const auto parse_one = [&](auto request) {
    if (request.ParseFromArray(data, static_cast<int>(size))) use(&request);
  };
  (parse_one(Requests()), ...);
}
template <typename Use>
void EveryRequest(const uint8_t* data, size_t size, Use use) {
  ParseAs<monet::v1::GenerateRequest, monet::v1::ScoreRequest, monet::v1::ExplainRequest,
          monet::v1::TokenizeRequest, monet::v1::DetokenizeRequest, monet::v1::ListPoliciesRequest,
          monet::v1::GetPolicyRequest>(data, size, use);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  google::protobuf::SetLogHandler(nullptr);
  EveryRequest(data, size, [](auto* request) { Handle(*request); });
  return 0;
}

// Changes the fields of one of the messages that the bytes are.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  google::protobuf::SetLogHandler(nullptr);
  std::mt19937 random(seed);
  std::string changed;
  uint32_t kinds = 0;
  EveryRequest(data, size, [&](auto* request) {
    // Each kind with the same chance; where fields are unknown, the bytes were meant as another.
    const bool meant = request->GetReflection()->GetUnknownFields(*request).empty();
    if (random() % (meant ? ++kinds : 32) != 0) return;
    monet::MutateMessage(request, &random);
    changed = request->SerializeAsString();
  });
  if (changed.size() > max_size) return size;
  changed.copy(reinterpret_cast<char*>(data), changed.size());
  return changed.size();
}
