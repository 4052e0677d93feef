// How many prompt tokens a step may prefill beside its decode rows, so that a step's time, which is
// what those who decode wait for, stays near a target. Chunk sizes change no result.
#pragma once

#include <chrono>
#include <cstdint>

namespace monet {

// Pure: time enters as measured durations. A step takes about base + cost · tokens; scaling the
// chunk by target / duration converges without overshoot to the chunk that meets the target, and
// to 1 when base alone exceeds it.
class ChunkController {
 public:
  // REQUIRES: max_tokens >= 1, target > 0.
  ChunkController(int32_t max_tokens, std::chrono::nanoseconds target);

  // In [1, max_tokens].
  int32_t budget() const { return static_cast<int32_t>(budget_); }

  // A step that prefilled `prefill_tokens` (steps without any say nothing and are ignored).
  void Observe(int32_t prefill_tokens, std::chrono::nanoseconds duration);

 private:
  double max_tokens_;
  double target_ns_;
  double budget_;  // starts at max_tokens
};

}  // namespace monet
