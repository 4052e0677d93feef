#include "runtime/engine/generation.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"

namespace monet {

Generation::Generation(EngineRequest request, const TokenText* text, Clock::time_point submitted)
    : request_(std::move(request)),
      text_(text),
      submitted_(submitted),
      decoder_(request_.stop_strings),
      tokens_(request_.prompt_ids),
      stop_ids_(request_.stop_token_ids) {
  if (!request_.ignore_eos && text_->eos_id >= 0) stop_ids_.push_back(text_->eos_id);
  if (request_.sampling.has_penalties()) history_.AddPrompt(request_.prompt_ids);
}

int32_t Generation::PrefillTokens(const EngineRequest& request) {
  const auto prompt = static_cast<int32_t>(request.prompt_ids.size());
  return request.kind == EngineRequest::Kind::kScore ? prompt - 1 : prompt;
}

RowTask Generation::TaskFor(int32_t position) const {
  RowTask task;
  if (scoring() || IsPromptRow(position)) {
    task.kind = RowTask::Kind::kScore;
    task.target = tokens_[position + 1];
    if (request_.prompt_logprobs) task.top_logprobs = request_.top_logprobs;
  } else {
    if (request_.logprobs) task.top_logprobs = request_.top_logprobs;
    task.sampling = &request_.sampling;
    task.sequence.history = &history_;
    if (completion_tokens_ < request_.min_tokens) task.sequence.forbidden = stop_ids_;
    task.seed = request_.seed;
    task.sample = request_.sample;
    task.position = static_cast<uint64_t>(position) + 1;
  }
  return task;
}

bool Generation::WantsRouting(int32_t position) const {
  if (!request_.routing) return false;
  return request_.prompt_routing || position >= std::ssize(request_.prompt_ids);
}

RoutingTask Generation::RoutingTaskFor(int32_t position) const {
  return {.mask = request_.mask.get(), .selection = *request_.routing, .position = position};
}

// Whether logits of this row are for the log-probability of a token of the prompt.
bool Generation::IsPromptRow(int32_t position) const {
  return request_.prompt_logprobs && position + 1 < std::ssize(request_.prompt_ids);
}

void Generation::Begin(Clock::time_point now) {
  if (begun_) return;
  begun_ = true;
  result_.queue_time = now - submitted_;
}

void Generation::AddRemovedWeight(std::span<const float> removed_weight) {
  // Row by row: the sum does not depend on how the prompt was cut into chunks.
  for (float weight : removed_weight) removed_weight_ += weight;
  computed_rows_ += static_cast<int64_t>(removed_weight.size());
}

void Generation::AddShadowWeight(std::span<const float> shadow_weight) {
  for (float weight : shadow_weight) shadow_weight_ += weight;
  has_shadow_ = true;
}

void Generation::AddRow(const RowResult& row, Clock::time_point now) {
  MONET_CHECK(!finished_ && !row.fault);
  if (!scoring() && IsPromptRow(scored_tokens_)) return AddPromptLogprob(row);
  if (!has_first_token_) {
    has_first_token_ = true;
    result_.time_to_first_token = now - submitted_;
  }
  delta_.token_ids.push_back(row.id);
  if (scoring() || request_.logprobs) delta_.logprobs.push_back(row.logprob);
  if (request_.logprobs && request_.top_logprobs > 0) delta_.top_logprobs.push_back(row.top);
  if (!scoring()) {
    AddGenerated(row.id);
  } else if (++scored_tokens_ == PrefillTokens(request_)) {
    Finish(FinishReason::kStop);
  }
}

void Generation::AddRouting(const RowActivations& row) {
  MONET_CHECK(!finished_ && !row.fault);
  delta_.routing.insert(delta_.routing.end(), row.routers.begin(), row.routers.end());
  if (!explaining()) return;
  delta_.token_ids.push_back(tokens_[explained_tokens_]);
  if (++explained_tokens_ == PrefillTokens(request_)) Finish(FinishReason::kStop);
}

void Generation::AddPromptLogprob(const RowResult& row) {
  ++scored_tokens_;
  delta_.prompt.token_ids.push_back(row.id);
  delta_.prompt.logprobs.push_back(row.logprob);
  if (request_.top_logprobs > 0) delta_.prompt.top.push_back(row.top);
}

void Generation::AddGenerated(int32_t id) {
  tokens_.push_back(id);
  if (request_.sampling.has_penalties()) history_.AddGenerated(id);
  ++completion_tokens_;
  if (IsStopToken(id)) {
    delta_.text += decoder_.Flush();
    result_.stop_token_id = id;
    Finish(FinishReason::kStop);
    return;
  }
  delta_.text += decoder_.Push(text_->bytes(id),
                               /*may_stop=*/completion_tokens_ > request_.min_tokens);
  const bool last = completion_tokens_ == request_.max_tokens;
  // What was held back may complete a stop string only now.
  if (last && !decoder_.stopped()) delta_.text += decoder_.Flush();
  if (decoder_.stopped()) {
    result_.stop_string = decoder_.matched();
    Finish(FinishReason::kStop);
  } else if (last) {
    Finish(FinishReason::kLength);
  }
}

bool Generation::IsStopToken(int32_t id) const {
  return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
}

void Generation::Finish(FinishReason reason) {
  finished_ = true;
  result_.finish_reason = reason;
}

EngineDelta Generation::TakeDelta() { return std::exchange(delta_, EngineDelta()); }

EngineResult Generation::Result(absl::Status status, double routing_weight,
                                Clock::time_point now) const {
  EngineResult result = result_;
  result.status = std::move(status);
  if (begun_) {
    result.usage.prompt_tokens = static_cast<int32_t>(request_.prompt_ids.size());
  } else {
    result.queue_time = now - submitted_;
  }
  result.usage.completion_tokens = completion_tokens_;
  const double all = routing_weight * static_cast<double>(computed_rows_);
  // Rounding may leave the gates' sum above one.
  if (all > 0) result.usage.removed_weight_share = std::clamp(removed_weight_ / all, 0.0, 1.0);
  if (has_shadow_) result.usage.shadow_weight_share = std::clamp(shadow_weight_ / all, 0.0, 1.0);
  return result;
}

}  // namespace monet
