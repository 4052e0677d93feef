// Routing in the API: which active experts a request wants, and activations as messages. Pure.
//
// Errors are refusals (runtime/base/reasons.h) with the field's path and its limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "monet/v1/expert.pb.h"
#include "monet/v1/routing.pb.h"
#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "runtime/policy/routing_pairs.h"

namespace monet::server {

// return_routing of Generate and Score.
absl::StatusOr<RoutingSelection> ConvertRoutingOptions(const v1::RoutingOptions& options);
absl::StatusOr<RoutingSelection> ConvertExplainOptions(const v1::ExplainRequest& request);

// Once prompt_ids and max_tokens are known: the experts that return_routing of `n` completions may
// bring, against the limit.
absl::Status CheckRoutingEntries(const EngineRequest& request, int32_t routers, int32_t n);

void AddActivations(std::span<const TokenActivation> from,
                    google::protobuf::RepeatedPtrField<v1::TokenActivation>* to);

// The activations in pieces whose messages have at most about `max_bytes`, in order; one activation
// is never cut, so a piece with a single one may have more.
std::vector<std::span<const TokenActivation>> SplitActivations(
    std::span<const TokenActivation> activations, size_t max_bytes);

}  // namespace monet::server
