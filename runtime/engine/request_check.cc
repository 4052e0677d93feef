#include "runtime/engine/request_check.h"

#include <set>
#include <span>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"

namespace monet {
namespace {

absl::Status CheckIds(std::span<const int32_t> ids, const char* field, int32_t vocabulary) {
  for (int32_t id : ids) {
    if (id < 0 || id >= vocabulary) {
      return InvalidArgument("{} has {}, must be from 0 to {}", field, id, vocabulary - 1);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStops(const EngineRequest& request, int32_t vocabulary) {
  if (request.stop_strings.size() > limits::kMaxStopStrings) {
    return InvalidArgument("stop has {} texts, limit {}", request.stop_strings.size(),
                           limits::kMaxStopStrings);
  }
  for (const std::string& stop : request.stop_strings) {
    if (stop.empty() || stop.size() > limits::kMaxStopStringBytes) {
      return InvalidArgument("stop has a text of {} bytes, must be from 1 to {}", stop.size(),
                             limits::kMaxStopStringBytes);
    }
  }
  if (request.stop_token_ids.size() > limits::kMaxStopTokenIds) {
    return InvalidArgument("stop_token_ids has {} ids, limit {}", request.stop_token_ids.size(),
                           limits::kMaxStopTokenIds);
  }
  return CheckIds(request.stop_token_ids, "stop_token_ids", vocabulary);
}

absl::Status CheckRouting(const EngineRequest& request) {
  if (!request.routing) {
    if (request.kind != EngineRequest::Kind::kExplain) return absl::OkStatus();
    return Error(absl::StatusCode::kInternal, "the request does not say which routing it wants");
  }
  const RoutingSelection& selection = *request.routing;
  if (selection.top_n < 1 || selection.top_n > limits::kMaxExplainTopN) {
    return InvalidArgument("routing.top_n is {}, must be from 1 to {}", selection.top_n,
                           limits::kMaxExplainTopN);
  }
  // A negation, so that a value that is no number is refused.
  if (!(selection.min_weight >= 0 && selection.min_weight <= limits::kMaxRoutingMinWeight)) {
    return InvalidArgument("routing.min_weight is {}, must be from 0 to {}", selection.min_weight,
                           limits::kMaxRoutingMinWeight);
  }
  return absl::OkStatus();
}

absl::Status CheckMinTokens(const EngineRequest& request, int32_t vocabulary) {
  if (request.min_tokens < 0 || request.min_tokens > request.max_tokens) {
    return InvalidArgument("min_tokens is {}, must be from 0 to max_tokens, {}", request.min_tokens,
                           request.max_tokens);
  }
  if (request.min_tokens == 0) return absl::OkStatus();
  // One more than they are: the model's eos.
  const std::set<int32_t> stops(request.stop_token_ids.begin(), request.stop_token_ids.end());
  if (static_cast<int64_t>(stops.size()) + 1 >= vocabulary) {
    return InvalidField("stopping.stop_token_ids leave no token to generate before min_tokens, {}",
                        request.min_tokens);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckEngineRequest(const EngineRequest& request, int32_t vocabulary,
                                int32_t max_context) {
  const auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  const bool score = request.kind == EngineRequest::Kind::kScore;
  if (prompt < (score ? 2 : 1) || prompt > max_context) {
    return InvalidArgument("prompt has {} tokens, must be from {} to the context's {}", prompt,
                           score ? 2 : 1, max_context);
  }
  MONET_RETURN_IF_ERROR(CheckIds(request.prompt_ids, "prompt", vocabulary));
  if (request.mask == nullptr) {
    // The caller's bug; refusing is the safe side: no mask must be said, never left out.
    return Error(absl::StatusCode::kInternal, "the request has no mask");
  }
  if (request.priority < 0 || request.priority > limits::kMaxPriority) {
    return InvalidArgument("priority is {}, must be from 0 to {}", request.priority,
                           limits::kMaxPriority);
  }
  MONET_RETURN_IF_ERROR(CheckRouting(request));
  if (request.kind != EngineRequest::Kind::kGenerate) return absl::OkStatus();
  if (request.max_tokens < 1 || request.max_tokens > max_context - prompt) {
    return InvalidArgument(
        "max_tokens is {}, must be from 1 to {} (the context's {} less {} prompt tokens)",
        request.max_tokens, max_context - prompt, max_context, prompt);
  }
  MONET_RETURN_IF_ERROR(CheckSamplingParams(request.sampling, vocabulary));
  MONET_RETURN_IF_ERROR(CheckStops(request, vocabulary));
  if (request.top_logprobs < 0 || request.top_logprobs > limits::kMaxTopLogprobs) {
    return InvalidArgument("top_logprobs is {}, must be from 0 to {}", request.top_logprobs,
                           limits::kMaxTopLogprobs);
  }
  return CheckMinTokens(request, vocabulary);
}

}  // namespace monet
