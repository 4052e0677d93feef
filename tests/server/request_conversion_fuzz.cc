// Any bytes as a request: conversion returns a status that names a field or an input within the
// limits, never anything else.
#include <google/protobuf/stubs/logging.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "server/request_conversion.h"

namespace {

void Require(bool held) {
  if (!held) std::abort();
}

void CheckInput(const monet::server::ServedShape& shape, monet::server::CallInput input) {
  for (int32_t id : input.engine.prompt_ids) Require(id >= 0 && id < shape.vocabulary);
  Require(input.engine.stop_strings.size() <= monet::limits::kMaxStopStrings);
  Require(input.mask.policies.size() <= monet::limits::kMaxRequestPolicies);
  for (const monet::ExplicitExperts& experts : input.mask.experts) {
    Require(experts.router >= 0 && experts.router < shape.mask.routers);
    Require(experts.bitmap.empty() || experts.bitmap.size() == shape.mask.BytesPerRouter());
  }
  Require(monet::CheckSamplingParams(input.engine.sampling, shape.vocabulary).ok());
  if (input.prompt_text) input.engine.prompt_ids = {1};
  if (monet::server::FitContext(shape, &input).ok() &&
      input.engine.kind == monet::EngineRequest::Kind::kGenerate) {
    Require(input.engine.max_tokens >= 1);
    Require(input.engine.min_tokens >= 0 && input.engine.min_tokens <= input.engine.max_tokens);
    Require(static_cast<int32_t>(input.engine.prompt_ids.size()) + input.engine.max_tokens <=
            shape.context);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const monet::server::ServedShape shape = {"demo", monet::MaskShape{2, 5}, 100, 32};
  google::protobuf::SetLogHandler(nullptr);
  const int bytes = static_cast<int>(size);
  monet::v1::GenerateRequest generate;
  if (generate.ParseFromArray(data, bytes)) {
    auto input = monet::server::ConvertGenerate(generate, shape);
    if (input.ok()) {
      CheckInput(shape, *std::move(input));
    } else {
      Require(!monet::FieldOf(input.status()).empty());
    }
  }
  monet::v1::ScoreRequest score;
  if (score.ParseFromArray(data, bytes)) {
    auto input = monet::server::ConvertScore(score, shape);
    if (input.ok()) {
      CheckInput(shape, *std::move(input));
    } else {
      Require(!monet::FieldOf(input.status()).empty());
    }
  }
  return 0;
}
