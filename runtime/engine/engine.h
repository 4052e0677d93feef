// The one thread that runs the model: take in, step, forward, sample, hand out. It runs at its own
// pace: it never waits for a client, and everything in it is bounded.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/model/step_model.h"
#include "runtime/policy/expert_mask.h"
#include "runtime/sample/sampler.h"
#include "runtime/tokenizer/tokenizer.h"

namespace monet {

using Clock = std::chrono::steady_clock;

enum class FinishReason : uint8_t { kStop, kLength };

struct EngineRequest {
  enum class Kind : uint8_t { kGenerate, kScore };

  Kind kind = Kind::kGenerate;
  std::string request_id;    // for logs
  std::string tenant;        // who is calling: fairness, quotas, metrics
  std::string cache_domain;  // whose cached prefixes may be shared (tenant unless configured)
  std::vector<int32_t> prompt_ids;         // at least one; ids in [0, V)
  std::shared_ptr<const ExpertMask> mask;  // never null
  Clock::time_point deadline = Clock::time_point::max();

  // kGenerate only
  int32_t max_tokens = 0;  // at least 1; prompt + max_tokens within the context
  SamplingParams sampling;
  uint64_t seed = 0;
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;  // beside the model's eos
  bool logprobs = false;
};

// A piece of output. For kScore: token_ids are prompt tokens 1..n-1 and logprobs theirs given the
// tokens before; text stays empty.
struct EngineDelta {
  std::string text;  // valid UTF-8; may be empty while characters or stop strings are held back
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;  // one a token when asked for (always for kScore)
};

struct EngineUsage {
  int32_t prompt_tokens = 0;
  int32_t completion_tokens = 0;
  int32_t cached_tokens = 0;  // prompt tokens read from the prefix cache
  double removed_weight_share =
      0;  // routing weight removed by the mask / all, over computed tokens
};

// How a request ended. status OK: finish_reason is meaningful. Otherwise RESOURCE_EXHAUSTED,
// DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE (drained) or INTERNAL.
struct EngineResult {
  absl::Status status;
  FinishReason finish_reason = FinishReason::kStop;
  std::string stop_string;     // the stop string that matched, if one did
  int32_t stop_token_id = -1;  // the stop or eos token that ended it, if one did
  EngineUsage usage;
  Clock::duration queue_time{};  // admission to first step
  Clock::duration time_to_first_token{};
};

// Where a request's output goes. Called on the engine's thread only, never concurrently; must not
// block. OnDelta is called only after HasRoom() returned true; while it returns false the sequence
// is paused, and Engine::Resume wakes it. OnFinish is called exactly once and is the last call.
class EngineSink {
 public:
  virtual ~EngineSink() = default;
  virtual bool HasRoom() = 0;
  virtual void OnDelta(EngineDelta delta) = 0;
  virtual void OnFinish(EngineResult result) = 0;
};

struct EngineOptions {
  int32_t max_queue = 256;                     // requests waiting for admission to the running set
  std::chrono::milliseconds step_target{100};  // prefill chunk sizes follow it
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
  // Cancels what still runs and joins.
  ~Engine();

  // Thread-safe. Errors at once: RESOURCE_EXHAUSTED (queue full, or the request can never fit the
  // KV blocks), INVALID_ARGUMENT, UNAVAILABLE (draining). After an error the sink is never called.
  absl::StatusOr<RequestId> Submit(EngineRequest request, std::shared_ptr<EngineSink> sink);

  // Thread-safe, idempotent; unknown ids are ignored. The request ends with CANCELLED within a
  // step.
  void Cancel(RequestId id);

  // Thread-safe. The sink has room again.
  void Resume(RequestId id);

  // Refuses new requests from now on; running and waiting ones go on. Returns when all have ended
  // or, at `deadline`, after cancelling the rest with UNAVAILABLE.
  void Drain(Clock::time_point deadline);

  EngineStats Stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace monet
