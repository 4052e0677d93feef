// Decides what every step runs: continuous batching with chunked prefill over paged key/value
// blocks. A pure state machine: no threads, no clock, no I/O; the same calls give the same plans.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <unordered_map>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/kv/block_pool.h"
#include "runtime/sched/chunk_controller.h"
#include "runtime/sched/fair_share.h"
#include "runtime/sched/mask_slots.h"
#include "runtime/sched/plan.h"

namespace monet {

// Admission: all or nothing: a place among max_sequences, the blocks for every position that the
// request may come to use (so nothing running can run out), and a slot for its mask. First goes the
// request whose tenant has had least (FairShare: what its requests used, and all that its running
// ones may come to use); each step of priority counts as max_context tokens less, a
// bounded head start; then first come, first served.
//
// A request that lacks blocks or a slot waits and holds nothing; those after it that fit go past
// it, but not for ever: once `max_bypass` requests have taken what it lacks (blocks: any request; a
// slot: any masked request, because sharing a slot keeps it taken), it goes before all that were
// not kept waiting so, and others may not take that resource any more until it is admitted. Hence
// the first request in this order is admitted once enough running ones have ended. Since a tenant
// moves back only by being served, every request comes to be first, unless its own tenant keeps it
// back: with requests of higher priority, or by holding `max_mask_slots` itself.
//
// A step: one row for every sequence that decodes, then prompt chunks in order of admission, within
// max_tokens and max_logit_rows. Beside decode rows the chunks follow ChunkController; alone they
// fill the step. When prompts wait, one row is kept for them; when not all decode rows fit, those
// that have waited longest go first: so every running sequence that is not paused advances.
//
// Not thread-safe.
class Scheduler {
 public:
  // `on_block_reuse`: see BlockPool.
  explicit Scheduler(const SchedulerOptions& options,
                     std::function<void(int32_t)> on_block_reuse = nullptr);

  // Whether it could run on an idle machine. Errors: INVALID_ARGUMENT (context),
  // RESOURCE_EXHAUSTED (blocks, slots); they name the limit. Thread-safe.
  absl::Status Check(const Arrival& request) const;

  // Takes in events, ends what is cancelled or late (running or waiting), admits, plans. The plan
  // lives until the next Step and is taken as run: positions advance.
  const StepPlan& Step(TimePoint now, const StepEvents& events);

  int32_t waiting() const { return static_cast<int32_t>(waiting_.size()); }
  int32_t running() const { return static_cast<int32_t>(running_.size()); }
  int32_t blocks_used() const { return blocks_.used(); }
  int32_t mask_slots_used() const { return slots_.used(); }
  int32_t chunk_budget() const { return chunks_.budget(); }
  const SchedulerOptions& options() const { return options_; }
  const FairShare& shares() const { return shares_; }
  // The earliest deadline of all requests; TimePoint::max() when none has one.
  TimePoint NextDeadline() const;

  // Aborts when counts do not add up: every block and slot reference belongs to one running
  // sequence and the other way round. Step calls its cheap part itself.
  void CheckInvariants() const;

 private:
  enum class Lacks : uint8_t {
    kNothing,
    kBlocks,
    kSlot,
    kOwnSlot,  // its tenant holds as many as it may
  };

  // What no further request may take in this Step.
  struct Closed {
    bool blocks = false;
    bool slots = false;
  };

  struct Sequence {
    Arrival request;
    bool running = false;
    bool paused = false;
    int32_t computed = 0;         // positions whose rows are planned or run
    std::vector<int32_t> blocks;  // while running
    int32_t mask_slot = -1;       // while running
    int32_t shadow_slot = -1;     // of shadows_, while running
    uint64_t last_step = 0;       // step that last gave it a decode row
    FairShare::Tenant* tenant = nullptr;
    uint64_t arrival = 0;  // number of the request
    int32_t bypassed = 0;

    bool prefilling() const { return computed < request.prompt_tokens; }
  };
  using Place = std::list<Sequence>::iterator;

  int32_t BlocksFor(const Arrival& request) const;
  void TakeIn(const StepEvents& events);
  void EndLate(TimePoint now);
  void End(SequenceId id, EndReason reason);
  void Remove(Place place);

  void Admit();
  // The order of admission. Starved requests come first.
  bool Before(Place a, Place b) const;
  bool Starved(const Sequence& waiting) const;
  Lacks Shortage(const Arrival& request) const;
  bool HoldsAllItsSlots(const Arrival& request) const;
  void AdmitOne(Place place);
  // Keeps what a request lacks from those after it, once it was bypassed often enough.
  void CloseFor(const Sequence& waiting, Lacks lacks, Closed* closed) const;

  void PlanDecode();
  void PlanPrefill();
  // The model's number of the slot; -1: none.
  int32_t ShadowSlot(const Sequence& sequence) const;
  void AddRows(Sequence& sequence, int32_t count, RowLogits logits);

  const SchedulerOptions options_;
  BlockPool blocks_;
  MaskSlots slots_;
  MaskSlots shadows_;
  ChunkController chunks_;
  FairShare shares_;
  std::list<Sequence> waiting_;  // oldest first
  std::list<Sequence> running_;  // in order of admission
  std::unordered_map<SequenceId, Place> index_;
  StepPlan plan_;
  uint64_t step_ = 0;
  uint64_t arrivals_ = 0;
  bool decoded_last_ = false;  // the last plan with rows had decode rows
};

}  // namespace monet
