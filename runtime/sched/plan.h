// What goes into the scheduler and what comes out: plain data.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/digest.h"

namespace monet {

using SequenceId = uint64_t;
using TimePoint = std::chrono::steady_clock::time_point;

struct SchedulerOptions {
  // StepLimits of the model; all at least 1 but mask_slots, which may be 0.
  int32_t max_tokens = 64;      // T, rows of one step
  int32_t max_logit_rows = 64;  // N
  int32_t max_sequences = 64;   // S, running at a time
  int32_t max_context = 2048;   // positions of one sequence
  int32_t kv_blocks = 0;        // B
  int32_t block_size = 16;      // P
  int32_t mask_slots = 8;       // distinct masks at a time
  int32_t shadow_slots = 0;     // distinct shadows at a time; numbered from mask_slots on

  int32_t max_queue = 256;  // requests waiting for admission
  // A waiting request lets at most this many younger ones take what it lacks; see Scheduler.
  int32_t max_bypass = 64;
  std::chrono::nanoseconds step_target = std::chrono::milliseconds(100);
};

// A request as the scheduler sees it.
struct Arrival {
  SequenceId id = 0;             // never used before
  std::string tenant;            // whose share it uses
  std::string cache_domain;      // carried to the sequence
  bool score = false;            // prefill only, logits of every row; otherwise of the last row
  bool prompt_logits = false;    // logits of every row of the prompt, then generation
  bool explain = false;          // prefill only, no logits
  int32_t max_chunk = 0;         // most rows of its prompt in one step; 0: as many as fit
  int32_t prompt_tokens = 0;     // rows to prefill, at least 1
  int32_t reserve_tokens = 0;    // positions that it may come to use, at least prompt_tokens
  std::optional<Digest> mask;    // nullopt: no expert is removed, no slot is needed
  std::optional<Digest> shadow;  // a mask that is only measured; gets a slot if one is free when
                                 // the request is admitted, and waits for none
  TimePoint deadline = TimePoint::max();
  double weight = 1;           // the tenant's share against others', above 0
  int32_t priority = 0;        // at least 0; see Scheduler
  int32_t max_mask_slots = 0;  // that the tenant may hold at a time; 0: any number
};

// What happened since the last Step. Ids that are not (or no longer) known are ignored everywhere.
// Arrivals are taken in before cancels: a request may come and be cancelled between two steps.
struct StepEvents {
  // Sequences of the last plan that need no more rows. One that only prefills (score, explain) is
  // finished by the plan that runs its last row and must be named here. Every other one of the
  // plan goes on; a generating one has its next token.
  std::vector<SequenceId> finished;
  std::optional<std::chrono::nanoseconds> step_duration;  // of the last plan, when it had rows
  std::vector<SequenceId> cancels;
  std::vector<SequenceId> pauses;   // no rows from now on; keeps its blocks and slot
  std::vector<SequenceId> resumes;  // ends a pause
  std::vector<Arrival> arrivals;    // REQUIRES: Scheduler::Check is OK, waiting() stays in bounds
};

enum class EndReason : uint8_t { kCancelled, kDeadline };

enum class RowLogits : uint8_t { kNone, kLast, kAll };

// Consecutive rows of one sequence in a step.
struct PlanRows {
  SequenceId id = 0;
  int32_t first_position = 0;
  int32_t count = 0;
  int32_t mask_slot = -1;
  int32_t shadow_slot = -1;
  RowLogits logits = RowLogits::kNone;
  std::span<const int32_t> blocks;  // the sequence's table; valid until the next Step
};

// Which mask a slot must hold before the step runs: that of sequence `id`, or its shadow.
struct SlotFill {
  int32_t slot = 0;
  SequenceId id = 0;
  bool shadow = false;
};

struct StepPlan {
  struct End {
    SequenceId id = 0;
    EndReason reason = EndReason::kCancelled;
  };

  std::vector<End> ended;            // already gone from the scheduler, blocks and slot freed
  std::vector<SequenceId> admitted;  // from waiting to running in this Step
  std::vector<SlotFill> fills;
  std::vector<PlanRows> rows;  // decode rows first; a sequence at most once
  int32_t tokens = 0;          // rows of all entries
  int32_t logit_rows = 0;
  int32_t prefill_tokens = 0;

  void Clear() { *this = StepPlan(); }
};

}  // namespace monet
