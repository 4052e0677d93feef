// One request from its prompt to its end: which token stands where, what each row of logits is
// for, when to stop, and what the client has still to be told.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/executor.h"
#include "runtime/sample/token_history.h"
#include "runtime/tokenizer/stream_decoder.h"

namespace monet {

// Not thread-safe.
class Generation {
 public:
  // `text` must outlive it. REQUIRES: the request is valid (EngineCore::Check).
  Generation(EngineRequest request, const TokenText* text, Clock::time_point submitted);

  const EngineRequest& request() const { return request_; }
  bool scoring() const { return request_.kind == EngineRequest::Kind::kScore; }
  bool explaining() const { return request_.kind == EngineRequest::Kind::kExplain; }
  // Rows to prefill. The last token of a text that is scored predicts nothing and is not run.
  static int32_t PrefillTokens(const EngineRequest& request);

  int32_t TokenAt(int32_t position) const { return tokens_[position]; }
  // What the logits of the row at `position` are for. Points into this, until the next AddRow.
  RowTask TaskFor(int32_t position) const;
  // Whether the routing of the row at `position` is wanted, and what of it.
  bool WantsRouting(int32_t position) const;
  RoutingTask RoutingTaskFor(int32_t position) const;

  // The first step that has rows of it begins.
  void Begin(Clock::time_point now);
  // (rows) of a step.
  void AddRemovedWeight(std::span<const float> removed_weight);
  // (rows) of a step, when it ran with its shadow.
  void AddShadowWeight(std::span<const float> shadow_weight);
  // The result of the next row of logits. REQUIRES: no fault, not finished().
  void AddRow(const RowResult& row, Clock::time_point now);
  // The routing of the next row that wants it. REQUIRES: no fault, not finished().
  void AddRouting(const RowActivations& row);

  bool finished() const { return finished_; }
  int32_t completion_tokens() const { return completion_tokens_; }
  bool HasDelta() const {
    return !delta_.token_ids.empty() || !delta_.prompt.token_ids.empty() || !delta_.routing.empty();
  }
  EngineDelta TakeDelta();
  // How it ended. `routing_weight` as StepModel::routing_weight_per_token.
  EngineResult Result(absl::Status status, double routing_weight, Clock::time_point now) const;

 private:
  bool IsPromptRow(int32_t position) const;
  void AddPromptLogprob(const RowResult& row);
  void AddGenerated(int32_t id);
  bool IsStopToken(int32_t id) const;
  void Finish(FinishReason reason);

  EngineRequest request_;
  const TokenText* text_;
  Clock::time_point submitted_;
  StreamDecoder decoder_;
  std::vector<int32_t> tokens_;    // prompt, then what was generated
  TokenHistory history_;           // kept when there are penalties
  std::vector<int32_t> stop_ids_;  // whatever ends it, eos too unless ignored
  int32_t completion_tokens_ = 0;
  int32_t scored_tokens_ = 0;     // of the prompt
  int32_t explained_tokens_ = 0;  // of the prompt, kExplain
  EngineDelta delta_;             // not yet handed out
  bool finished_ = false;
  EngineResult result_;  // but for the usage
  bool begun_ = false;
  bool has_first_token_ = false;
  double removed_weight_ = 0;
  double shadow_weight_ = 0;
  bool has_shadow_ = false;
  int64_t computed_rows_ = 0;
};

}  // namespace monet
