// The one thread that runs the model: take in, step, forward, sample, hand out. It runs at its own
// pace: it never waits for a client, and everything in it is bounded.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/engine/token_text.h"
#include "runtime/model/step_model.h"
#include "runtime/policy/expert_mask.h"
#include "runtime/policy/routing_pairs.h"
#include "runtime/sample/sampler.h"
#include "runtime/tokenizer/tokenizer.h"

namespace monet {

using Clock = std::chrono::steady_clock;

enum class FinishReason : uint8_t { kStop, kLength };

struct EngineRequest {
  // kExplain: routing of every token of the prompt, no logits.
  enum class Kind : uint8_t { kGenerate, kScore, kExplain };

  Kind kind = Kind::kGenerate;
  std::string request_id;    // for logs
  std::string tenant;        // who is calling: fairness, quotas, metrics
  std::string cache_domain;  // whose cached prefixes may be shared (tenant unless configured)
  std::vector<int32_t> prompt_ids;         // at least one; ids in [0, V)
  std::shared_ptr<const ExpertMask> mask;  // never null
  // Measured, not applied; null: none. See EngineUsage::shadow_weight_share.
  std::shared_ptr<const ExpertMask> shadow;
  Clock::time_point deadline = Clock::time_point::max();
  double weight = 1;           // the tenant's share against others', above 0
  int32_t priority = 0;        // 0 to limits::kMaxPriority: a head start, see Scheduler
  int32_t max_mask_slots = 0;  // distinct masks of the tenant that run at a time; 0: any number
  // The active experts of every token that is run; always for kExplain. Routing is of tokens that
  // are computed: a request that wants it must not take its prefix from a cache.
  std::optional<RoutingSelection> routing;
  bool prompt_routing = true;  // of the prompt's tokens too

  // kGenerate only
  int32_t max_tokens = 0;  // at least 1; prompt + max_tokens within the context
  SamplingParams sampling;
  uint64_t seed = 0;
  uint32_t sample = 0;  // which of several completions: other random numbers of the same seed
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;  // beside the model's eos
  // Nothing stops before this many tokens: stop tokens cannot be chosen, and their text is not
  // searched for stop strings. [0, max_tokens]
  int32_t min_tokens = 0;
  bool ignore_eos = false;  // the model's eos does not stop (unless among stop_token_ids)
  bool logprobs = false;
  int32_t top_logprobs = 0;      // alternatives beside each log-probability, see limits
  bool prompt_logprobs = false;  // of prompt tokens 1..n-1; computes logits of every prompt row
};

// Log-probabilities of consecutive tokens of a prompt.
struct PromptLogprobs {
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;                 // one a token
  std::vector<std::vector<SampledToken>> top;  // one a token when alternatives are asked for
};

// A piece of output. Every generated token is reported exactly once in token_ids, the one that
// ended the sequence included, whatever becomes of its text: a token's text may come in a later
// delta (held back while it may still become a character or a stop string) or never (cut at a stop
// string; stop tokens and eos add none). For kScore: token_ids are prompt tokens 1..n-1 and
// logprobs theirs given the tokens before; text stays empty. For kExplain: the
// prompt's tokens, each with the delta that has its routing.
struct EngineDelta {
  std::string text;  // valid UTF-8; may be empty while characters or stop strings are held back
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;  // one a token when asked for (always for kScore)
  std::vector<std::vector<SampledToken>> top_logprobs;  // one a token when asked for
  PromptLogprobs prompt;  // when asked for; all of it comes before or with the first token
  // When asked for, of every token that was run since the last delta, by position and router; the
  // token that ends a sequence, and the last of a text that is scored, are never run.
  std::vector<TokenActivation> routing;
};

struct EngineUsage {
  int32_t prompt_tokens = 0;  // 0 when it ended before its first step
  int32_t completion_tokens = 0;
  int32_t cached_tokens = 0;  // prompt tokens read from the prefix cache
  // Routing weight removed by the mask / all, over computed tokens.
  double removed_weight_share = 0;
  // The same that the shadow would remove of this run's routing; absent when there was no shadow,
  // or no slot for it when the request started.
  std::optional<double> shadow_weight_share;
};

// How a request ended. status OK: finish_reason is meaningful. Otherwise RESOURCE_EXHAUSTED,
// DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE (drained) or INTERNAL.
struct EngineResult {
  absl::Status status;
  FinishReason finish_reason = FinishReason::kStop;
  std::string stop_string;     // the stop string that matched, if one did
  int32_t stop_token_id = -1;  // the stop or eos token that ended it, if one did
  EngineUsage usage;
  Clock::duration queue_time{};           // from Submit to the first step, or to the end
  Clock::duration time_to_first_token{};  // from Submit; zero when there was none
};

// Where a request's output goes. Called on the engine's thread only, never concurrently; must not
// block or throw. OnDelta is called only after HasRoom() returned true; while it returns false the
// sequence is paused with one delta kept back, and Engine::Resume wakes it: a sink that once
// returned false must call Resume when it has room. OnFinish is called exactly once and is the last
// call; with an OK status every delta came before it, with an error what was kept back is dropped.
class EngineSink {
 public:
  virtual ~EngineSink() = default;
  virtual bool HasRoom() = 0;
  virtual void OnDelta(EngineDelta delta) = 0;
  virtual void OnFinish(EngineResult result) = 0;
};

struct EngineOptions {
  // Requests waiting for admission to the running set, or complete and waiting for their client to
  // take the last delta.
  int32_t max_queue = 256;
  std::chrono::milliseconds step_target{100};  // prefill chunk sizes follow it
  int32_t max_bypass = 64;  // younger requests that may overtake a waiting one; see Scheduler
  // No tenant may have more requests waiting than places are free in the queue: alone it gets half
  // of them, and others who come find some. A queue in which nothing waits takes any that fits.
  bool share_queue = false;
};

// A moment's figures, for metrics. Counters are totals since start.
struct EngineStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t kv_blocks_used = 0;
  int64_t kv_blocks = 0;
  int64_t mask_slots_used = 0;
  int64_t steps = 0;
  int64_t prompt_tokens = 0;
  int64_t generation_tokens = 0;
  Clock::time_point last_step{};  // heartbeat: also advanced while idle
};

// Called on the engine's thread after each step; must not block. For histograms.
struct StepReport {
  int32_t tokens = 0;
  int32_t sequences = 0;
  Clock::duration duration{};
};

class Engine {
 public:
  using RequestId = uint64_t;

  // Model and tokenizer must outlive the engine. Starts the thread.
  Engine(StepModel* model, const Tokenizer* tokenizer, EngineOptions options,
         std::function<void(const StepReport&)> on_step = nullptr);
  // The same with another source of tokens' text, for tests.
  Engine(StepModel* model, TokenText text, EngineOptions options,
         std::function<void(const StepReport&)> on_step = nullptr);
  // Cancels what still runs and joins.
  ~Engine();

  // Thread-safe. Errors at once: RESOURCE_EXHAUSTED (queue full, or the request can never fit the
  // KV blocks), INVALID_ARGUMENT, UNAVAILABLE (draining). After an error the sink is never called.
  absl::StatusOr<RequestId> Submit(EngineRequest request, std::shared_ptr<EngineSink> sink);

  // The same request once for each sink, as samples 0, 1, … of its seed: all are taken or none.
  // Only sample 0 computes log-probabilities and routing of the prompt. REQUIRES: at least one
  // sink.
  absl::StatusOr<std::vector<RequestId>> SubmitSamples(
      const EngineRequest& request, std::vector<std::shared_ptr<EngineSink>> sinks);

  // Thread-safe, idempotent; unknown ids are ignored. The request ends with CANCELLED within a
  // step.
  void Cancel(RequestId id);

  // Thread-safe. The sink has room again.
  void Resume(RequestId id);

  // Refuses new requests from now on; running and waiting ones go on. Returns when all have ended
  // or, at `deadline`, after cancelling the rest with UNAVAILABLE. Thread-safe; never from a sink.
  void Drain(Clock::time_point deadline);

  EngineStats Stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace monet
