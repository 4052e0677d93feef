#include "server/routing_conversion.h"

#include "runtime/base/reasons.h"
#include "runtime/limits.h"

namespace monet::server {
namespace {

// Most bytes of an ExpertActivation and, beside its experts, of a TokenActivation on the wire.
constexpr size_t kExpertBytes = 15;
constexpr size_t kTokenBytes = 24;

absl::Status CheckMinWeight(const char* field, double value) {
  // A negation, so that a value that is no number is refused.
  if (!(value >= 0 && value <= limits::kMaxRoutingMinWeight)) {
    return InvalidField("{} is {}, range 0 to {}", field, value, limits::kMaxRoutingMinWeight);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RoutingSelection> ConvertRoutingOptions(const v1::RoutingOptions& options) {
  RoutingSelection selection{.top_n = limits::kDefaultRoutingTopN,
                             .min_weight = options.min_weight()};
  if (options.has_top_n()) {
    if (options.top_n() < 1 || options.top_n() > limits::kMaxRoutingTopN) {
      return InvalidField("return_routing.top_n is {}, range 1 to {}", options.top_n(),
                          limits::kMaxRoutingTopN);
    }
    selection.top_n = options.top_n();
  }
  MONET_RETURN_IF_ERROR(CheckMinWeight("return_routing.min_weight", selection.min_weight));
  return selection;
}

absl::StatusOr<RoutingSelection> ConvertExplainOptions(const v1::ExplainRequest& request) {
  RoutingSelection selection{.top_n = limits::kDefaultRoutingTopN,
                             .min_weight = request.min_weight()};
  if (request.has_top_n()) {
    if (request.top_n() < 0 || request.top_n() > limits::kMaxExplainTopN) {
      return InvalidField("top_n is {}, range 0 to {}", request.top_n(), limits::kMaxExplainTopN);
    }
    selection.top_n = request.top_n() == 0 ? limits::kMaxExplainTopN : request.top_n();
  }
  MONET_RETURN_IF_ERROR(CheckMinWeight("min_weight", selection.min_weight));
  return selection;
}

absl::Status CheckRoutingEntries(const EngineRequest& request, int32_t routers, int32_t n) {
  if (!request.routing) return absl::OkStatus();
  int64_t tokens = std::ssize(request.prompt_ids);
  if (request.kind == EngineRequest::Kind::kGenerate) tokens += int64_t{request.max_tokens} * n;
  const int64_t entries = tokens * routers * request.routing->top_n;
  if (entries > limits::kMaxRoutingEntries) {
    return InvalidField(
        "return_routing.top_n is {}: {} tokens with {} routers ask for {} experts, limit {}: lower "
        "it, the tokens or the completions",
        request.routing->top_n, tokens, routers, entries, limits::kMaxRoutingEntries);
  }
  return absl::OkStatus();
}

void AddActivations(std::span<const TokenActivation> from,
                    google::protobuf::RepeatedPtrField<v1::TokenActivation>* to) {
  for (const TokenActivation& activation : from) {
    v1::TokenActivation* out = to->Add();
    out->set_position(activation.position);
    out->set_router(activation.router);
    out->set_active_experts(activation.active_experts);
    out->set_removed_weight(activation.removed_weight);
    for (const ActiveExpert& expert : activation.experts) {
      v1::ExpertActivation* entry = out->add_experts();
      entry->set_i(expert.i);
      entry->set_j(expert.j);
      entry->set_weight(expert.weight);
      entry->set_removed(expert.removed);
    }
  }
}

std::vector<std::span<const TokenActivation>> SplitActivations(
    std::span<const TokenActivation> activations, size_t max_bytes) {
  std::vector<std::span<const TokenActivation>> pieces;
  size_t begin = 0;
  size_t bytes = 0;
  for (size_t n = 0; n < activations.size(); ++n) {
    const size_t more = kTokenBytes + kExpertBytes * activations[n].experts.size();
    if (n > begin && bytes + more > max_bytes) {
      pieces.push_back(activations.subspan(begin, n - begin));
      begin = n;
      bytes = 0;
    }
    bytes += more;
  }
  if (begin < activations.size()) pieces.push_back(activations.subspan(begin));
  return pieces;
}

}  // namespace monet::server
