// From the runtime's values to response messages. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "monet/v1/generation.pb.h"
#include "monet/v1/policy.pb.h"
#include "runtime/engine/engine.h"
#include "runtime/policy/registry.h"
#include "server/identity.h"
#include "server/serving_model.h"

namespace monet::server {

void FillAppliedPolicy(const monet::Policy& policy, bool mandatory, v1::AppliedPolicy* out);
// `identity` says which of the policies are mandatory.
void FillAppliedMask(const ResolvedMask& mask, const PolicySnapshot& snapshot, const Tenant& tenant,
                     v1::AppliedMask* out);
void FillPolicy(const monet::Policy& policy, v1::Policy* out);
void FillUsage(const EngineUsage& usage, v1::Usage* out);
// All but the prompt's log-probabilities.
void FillCompletion(int32_t index, EngineDelta delta, v1::Completion* out);
// Appends.
void AddPromptLogprobs(const PromptLogprobs& prompt, v1::PromptLogprobs* out);
void FillFinish(int32_t index, const EngineResult& result, v1::Finish* out);
void FillModel(const ServingModel& model, const PolicySnapshot& snapshot, const Tenant& tenant,
               v1::GetModelResponse* out);

}  // namespace monet::server
