#include "runtime/sched/scheduler.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

#include "runtime/base/check.h"

namespace monet {

Scheduler::Scheduler(const SchedulerOptions& options, std::function<void(int32_t)> on_block_reuse)
    : options_(options),
      blocks_(options.kv_blocks, std::move(on_block_reuse)),
      slots_(options.mask_slots),
      shadows_(options.shadow_slots),
      chunks_(options.max_tokens, options.step_target) {
  MONET_CHECK(options.max_tokens >= 1 && options.max_logit_rows >= 1);
  MONET_CHECK(options.max_sequences >= 1 && options.max_context >= 1);
  MONET_CHECK(options.kv_blocks >= 1 && options.block_size >= 1);
  MONET_CHECK(options.max_queue >= 1 && options.max_bypass >= 0);
}

int32_t Scheduler::BlocksFor(const Arrival& request) const {
  return (request.reserve_tokens - 1) / options_.block_size + 1;
}

absl::Status Scheduler::Check(const Arrival& request) const {
  MONET_CHECK(request.prompt_tokens >= 1);
  MONET_CHECK(request.reserve_tokens >= request.prompt_tokens);
  MONET_CHECK(request.weight > 0 && request.priority >= 0 && request.max_mask_slots >= 0);
  if (request.reserve_tokens > options_.max_context) {
    return InvalidArgument("prompt and max_tokens are {} tokens together, context is {}",
                           request.reserve_tokens, options_.max_context);
  }
  if (BlocksFor(request) > options_.kv_blocks) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "prompt and max_tokens need {} key/value blocks, the server has {} ({} tokens)",
                 BlocksFor(request), options_.kv_blocks,
                 int64_t{options_.kv_blocks} * options_.block_size);
  }
  if (request.mask && options_.mask_slots == 0) {
    return Error(absl::StatusCode::kResourceExhausted, "the server has 0 mask slots");
  }
  return absl::OkStatus();
}

const StepPlan& Scheduler::Step(TimePoint now, const StepEvents& events) {
  if (events.step_duration) chunks_.Observe(plan_.prefill_tokens, *events.step_duration);
  plan_.Clear();
  ++step_;
  TakeIn(events);
  EndLate(now);
  Admit();
  PlanDecode();
  PlanPrefill();
  if (plan_.tokens > 0) decoded_last_ = plan_.tokens > plan_.prefill_tokens;
  MONET_CHECK(plan_.tokens <= options_.max_tokens);
  MONET_CHECK(plan_.logit_rows <= options_.max_logit_rows);
  MONET_CHECK(running() <= options_.max_sequences && waiting() <= options_.max_queue);
  MONET_CHECK(index_.size() == waiting_.size() + running_.size());
  return plan_;
}

void Scheduler::TakeIn(const StepEvents& events) {
  for (SequenceId id : events.finished) {
    if (const auto found = index_.find(id); found != index_.end()) Remove(found->second);
  }
  for (const Arrival& arrival : events.arrivals) {
    MONET_CHECK(Check(arrival).ok());
    Sequence& sequence = waiting_.emplace_back();
    sequence.request = arrival;
    sequence.tenant = shares_.Arrive(arrival.tenant);
    sequence.arrival = ++arrivals_;
    const bool is_new = index_.emplace(arrival.id, std::prev(waiting_.end())).second;
    MONET_CHECK(is_new);
  }
  for (SequenceId id : events.cancels) End(id, EndReason::kCancelled);
  for (SequenceId id : events.pauses) {
    if (const auto found = index_.find(id); found != index_.end()) found->second->paused = true;
  }
  for (SequenceId id : events.resumes) {
    if (const auto found = index_.find(id); found != index_.end()) found->second->paused = false;
  }
}

void Scheduler::EndLate(TimePoint now) {
  std::vector<SequenceId> late;
  for (const std::list<Sequence>* list : {&running_, &waiting_}) {
    for (const Sequence& sequence : *list) {
      if (sequence.request.deadline <= now) late.push_back(sequence.request.id);
    }
  }
  for (SequenceId id : late) End(id, EndReason::kDeadline);
}

void Scheduler::End(SequenceId id, EndReason reason) {
  const auto found = index_.find(id);
  if (found == index_.end()) return;
  Remove(found->second);
  plan_.ended.push_back({id, reason});
}

void Scheduler::Remove(Place place) {
  for (int32_t block : place->blocks) blocks_.Release(block);
  if (place->mask_slot >= 0) slots_.Release(place->mask_slot);
  if (place->shadow_slot >= 0) shadows_.Release(place->shadow_slot);
  if (place->running) {
    shares_.End(place->tenant, place->request.reserve_tokens, place->computed,
                place->request.weight);
  } else {
    shares_.Cancel(place->tenant);
  }
  index_.erase(place->request.id);
  (place->running ? running_ : waiting_).erase(place);
}

Scheduler::Lacks Scheduler::Shortage(const Arrival& request) const {
  if (HoldsAllItsSlots(request)) return Lacks::kOwnSlot;
  if (request.mask && !slots_.CanAcquire(*request.mask)) return Lacks::kSlot;
  if (BlocksFor(request) > blocks_.free()) return Lacks::kBlocks;
  return Lacks::kNothing;
}

bool Scheduler::HoldsAllItsSlots(const Arrival& request) const {
  if (!request.mask || request.max_mask_slots == 0) return false;
  std::set<int32_t> held;
  for (const Sequence& sequence : running_) {
    if (sequence.mask_slot < 0 || sequence.request.tenant != request.tenant) continue;
    if (sequence.request.mask == request.mask) return false;
    held.insert(sequence.mask_slot);
  }
  return std::ssize(held) >= request.max_mask_slots;
}

bool Scheduler::Starved(const Sequence& waiting) const {
  return waiting.bypassed > 0 && waiting.bypassed >= options_.max_bypass;
}

bool Scheduler::Before(Place a, Place b) const {
  const auto key = [this](const Sequence& s) {
    const double head_start = static_cast<double>(s.request.priority) * options_.max_context;
    return Starved(s) ? std::tuple(0, 0.0, s.arrival)
                      : std::tuple(1, s.tenant->service() - head_start, s.arrival);
  };
  return key(*a) < key(*b);
}

void Scheduler::Admit() {
  if (waiting_.empty() || running() == options_.max_sequences) return;
  std::vector<Place> order;
  for (Place place = waiting_.begin(); place != waiting_.end(); ++place) order.push_back(place);
  const auto sort_from = [&](size_t first) {
    std::sort(order.begin() + static_cast<ptrdiff_t>(first), order.end(),
              [this](Place a, Place b) { return Before(a, b); });
  };
  sort_from(0);
  Closed closed;
  std::vector<std::pair<Place, Lacks>> passed;  // went before in the order, and wait
  for (size_t next = 0; next < order.size(); ++next) {
    if (closed.blocks || running() == options_.max_sequences) return;
    const Place place = order[next];
    Lacks lacks = Shortage(place->request);
    if (lacks == Lacks::kNothing && closed.slots && place->request.mask) lacks = Lacks::kSlot;
    if (lacks != Lacks::kNothing) {
      CloseFor(*place, lacks, &closed);
      passed.emplace_back(place, lacks);
      continue;
    }
    for (const auto& [older, lack] : passed) {
      if (lack == Lacks::kOwnSlot || (lack == Lacks::kSlot && !place->request.mask)) continue;
      ++older->bypassed;
      CloseFor(*older, lack, &closed);
    }
    AdmitOne(place);
    sort_from(next + 1);  // its tenant has moved back
  }
}

void Scheduler::CloseFor(const Sequence& waiting, Lacks lacks, Closed* closed) const {
  if (waiting.bypassed < options_.max_bypass || lacks == Lacks::kOwnSlot) return;
  (lacks == Lacks::kBlocks ? closed->blocks : closed->slots) = true;
}

void Scheduler::AdmitOne(Place place) {
  const bool enough = blocks_.Allocate(BlocksFor(place->request), &place->blocks);
  MONET_CHECK(enough);
  if (place->request.mask) {
    const MaskSlots::Grant grant = slots_.Acquire(*place->request.mask);
    place->mask_slot = grant.slot;
    if (grant.fill) plan_.fills.push_back({grant.slot, place->request.id});
  }
  if (place->request.shadow && shadows_.CanAcquire(*place->request.shadow)) {
    const MaskSlots::Grant grant = shadows_.Acquire(*place->request.shadow);
    place->shadow_slot = grant.slot;
    if (grant.fill) {
      plan_.fills.push_back({ShadowSlot(*place), place->request.id, /*shadow=*/true});
    }
  }
  place->running = true;
  shares_.Run(place->tenant, place->request.reserve_tokens, place->request.weight);
  plan_.admitted.push_back(place->request.id);
  running_.splice(running_.end(), waiting_, place);
}

void Scheduler::PlanDecode() {
  std::vector<Sequence*> ready;
  bool prompts_wait = false;
  for (Sequence& sequence : running_) {
    if (sequence.paused) continue;
    if (sequence.prefilling()) {
      prompts_wait = true;
    } else {
      // It should have been reported as finished.
      MONET_CHECK(!sequence.request.score && !sequence.request.explain);
      ready.push_back(&sequence);
    }
  }
  int32_t room = std::min(options_.max_tokens, options_.max_logit_rows);
  if (prompts_wait) {
    // One row is kept for prompts; where a step has only one, decode and prefill take turns.
    room = room > 1 ? room - 1 : (decoded_last_ ? 0 : 1);
  }
  if (static_cast<int32_t>(ready.size()) > room) {
    std::stable_sort(ready.begin(), ready.end(), [](const Sequence* a, const Sequence* b) {
      return a->last_step < b->last_step;
    });
    ready.resize(room);
  }
  for (Sequence* sequence : ready) {
    sequence->last_step = step_;
    AddRows(*sequence, 1, RowLogits::kLast);
  }
}

void Scheduler::PlanPrefill() {
  const int32_t decode_rows = plan_.tokens;
  int32_t budget = options_.max_tokens - decode_rows;
  if (decode_rows > 0) budget = std::min(budget, chunks_.budget());
  for (Sequence& sequence : running_) {
    if (budget == 0) return;
    if (sequence.paused || !sequence.prefilling()) continue;
    const int32_t remaining = sequence.request.prompt_tokens - sequence.computed;
    const int32_t logit_room = options_.max_logit_rows - plan_.logit_rows;
    int32_t count = std::min(remaining, budget);
    if (sequence.request.max_chunk > 0) count = std::min(count, sequence.request.max_chunk);
    RowLogits logits = RowLogits::kNone;
    if (sequence.request.explain) {
      // Its rows have no logits.
    } else if (sequence.request.score || sequence.request.prompt_logits) {
      count = std::min(count, logit_room);
      logits = RowLogits::kAll;
    } else if (count == remaining) {
      if (logit_room > 0) {
        logits = RowLogits::kLast;
      } else {
        --count;
      }
    }
    if (count == 0) continue;
    AddRows(sequence, count, logits);
    plan_.prefill_tokens += count;
    budget -= count;
  }
}

void Scheduler::AddRows(Sequence& sequence, int32_t count, RowLogits logits) {
  MONET_CHECK(sequence.computed + count <= sequence.request.reserve_tokens);
  plan_.rows.push_back({.id = sequence.request.id,
                        .first_position = sequence.computed,
                        .count = count,
                        .mask_slot = sequence.mask_slot,
                        .shadow_slot = ShadowSlot(sequence),
                        .logits = logits,
                        .blocks = sequence.blocks});
  sequence.computed += count;
  plan_.tokens += count;
  if (logits == RowLogits::kLast) plan_.logit_rows += 1;
  if (logits == RowLogits::kAll) plan_.logit_rows += count;
}

int32_t Scheduler::ShadowSlot(const Sequence& sequence) const {
  return sequence.shadow_slot < 0 ? -1 : options_.mask_slots + sequence.shadow_slot;
}

TimePoint Scheduler::NextDeadline() const {
  TimePoint next = TimePoint::max();
  for (const std::list<Sequence>* list : {&running_, &waiting_}) {
    for (const Sequence& sequence : *list) next = std::min(next, sequence.request.deadline);
  }
  return next;
}

void Scheduler::CheckInvariants() const {
  blocks_.CheckInvariants();
  slots_.CheckInvariants();
  shadows_.CheckInvariants();
  std::vector<int32_t> block_references(blocks_.blocks(), 0);
  std::vector<int32_t> slot_references(slots_.slots(), 0);
  std::vector<int32_t> shadow_references(shadows_.slots(), 0);
  for (const Sequence& sequence : running_) {
    MONET_CHECK(sequence.running);
    MONET_CHECK(static_cast<int32_t>(sequence.blocks.size()) == BlocksFor(sequence.request));
    for (int32_t block : sequence.blocks) ++block_references[block];
    MONET_CHECK((sequence.mask_slot >= 0) == sequence.request.mask.has_value());
    if (sequence.mask_slot >= 0) ++slot_references[sequence.mask_slot];
    MONET_CHECK(sequence.shadow_slot < 0 || sequence.request.shadow);
    if (sequence.shadow_slot >= 0) ++shadow_references[sequence.shadow_slot];
  }
  int32_t tenants_running = 0;
  int32_t tenants_waiting = 0;
  for (const auto& [name, tenant] : shares_.tenants()) {
    tenants_running += tenant.running;
    tenants_waiting += tenant.waiting;
  }
  MONET_CHECK(tenants_running == running() && tenants_waiting == waiting());
  for (const Sequence& sequence : waiting_) {
    MONET_CHECK(!sequence.running && sequence.blocks.empty() && sequence.mask_slot < 0);
  }
  for (int32_t block = 0; block < blocks_.blocks(); ++block) {
    MONET_CHECK(block_references[block] == blocks_.references(block));
    MONET_CHECK(block_references[block] <= 1);  // nothing is shared without a prefix cache
  }
  for (int32_t slot = 0; slot < slots_.slots(); ++slot) {
    MONET_CHECK(slot_references[slot] == slots_.references(slot));
  }
  for (int32_t slot = 0; slot < shadows_.slots(); ++slot) {
    MONET_CHECK(shadow_references[slot] == shadows_.references(slot));
  }
}

}  // namespace monet
