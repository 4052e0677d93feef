#include "runtime/engine/engine_core.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/engine/all_finite.h"
#include "runtime/engine/request_check.h"
#include "runtime/limits.h"

namespace monet {
namespace {

SchedulerOptions OptionsOf(const StepLimits& limits, const EngineOptions& options) {
  SchedulerOptions result;
  result.max_tokens = limits.max_tokens;
  result.max_logit_rows = limits.max_logit_rows;
  result.max_sequences = limits.max_sequences;
  result.max_context = limits.max_context;
  result.kv_blocks = limits.kv_blocks;
  result.block_size = limits.block_size;
  result.mask_slots = limits.mask_slots;
  result.shadow_slots = limits.shadow_slots;
  result.max_queue = options.max_queue;
  result.max_bypass = options.max_bypass;
  result.step_target = options.step_target;
  return result;
}

size_t LogitRows(const PlanRows& rows) {
  if (rows.logits == RowLogits::kNone) return 0;
  return rows.logits == RowLogits::kLast ? 1 : rows.count;
}

size_t RoutingRowsOf(const PlanRows& rows, const Generation& generation) {
  size_t count = 0;
  for (int32_t n = 0; n < rows.count; ++n) {
    count += generation.WantsRouting(rows.first_position + n) ? 1 : 0;
  }
  return count;
}

// Rows of one step, so that their activations stay within limits::kMaxStepActivations.
int32_t MaxChunk(const EngineRequest& request) {
  if (!request.routing || !request.prompt_routing) return 0;
  const int64_t row = int64_t{request.mask->shape().routers} * request.routing->top_n;
  return static_cast<int32_t>(std::max<int64_t>(1, limits::kMaxStepActivations / row));
}

}  // namespace

EngineCore::EngineCore(std::unique_ptr<Executor> executor, TokenText text, EngineOptions options,
                       Now now)
    : executor_(std::move(executor)),
      text_(std::move(text)),
      options_(options),
      now_(std::move(now)),
      scheduler_(OptionsOf(executor_->limits(), options),
                 [this](int32_t block) { executor_->PoisonBlock(block); }) {}

Arrival EngineCore::ArrivalOf(RequestId id, const EngineRequest& request) {
  Arrival arrival;
  arrival.id = id;
  arrival.tenant = request.tenant;
  arrival.cache_domain = request.cache_domain;
  arrival.score = request.kind == EngineRequest::Kind::kScore;
  arrival.prompt_logits = request.prompt_logprobs;
  arrival.explain = request.kind == EngineRequest::Kind::kExplain;
  arrival.max_chunk = MaxChunk(request);
  arrival.prompt_tokens = Generation::PrefillTokens(request);
  arrival.reserve_tokens = arrival.prompt_tokens;
  if (request.kind == EngineRequest::Kind::kGenerate) arrival.reserve_tokens += request.max_tokens;
  if (!request.mask->empty()) arrival.mask = request.mask->digest();
  if (request.shadow != nullptr) arrival.shadow = request.shadow->digest();
  arrival.deadline = request.deadline;
  arrival.weight = request.weight;
  arrival.priority = request.priority;
  arrival.max_mask_slots = request.max_mask_slots;
  return arrival;
}

absl::Status EngineCore::Check(const EngineRequest& request) const {
  MONET_RETURN_IF_ERROR(
      CheckEngineRequest(request, executor_->vocabulary(), scheduler_.options().max_context));
  return scheduler_.Check(ArrivalOf(0, request));
}

void EngineCore::Add(RequestId id, EngineRequest request, std::shared_ptr<EngineSink> sink,
                     Clock::time_point submitted) {
  MONET_CHECK(waiting() < options_.max_queue);
  events_.arrivals.push_back(ArrivalOf(id, request));
  const bool is_new =
      requests_.try_emplace(id, Generation(std::move(request), &text_, submitted), std::move(sink))
          .second;
  MONET_CHECK(is_new);
}

void EngineCore::Cancel(RequestId id, const absl::Status& status) {
  const auto at = requests_.find(id);
  if (at == requests_.end()) return;
  if (at->second.flushing) {
    Finish(at, status);
    return;
  }
  at->second.cancelled = status;
  events_.cancels.push_back(id);
}

void EngineCore::CancelAll(const absl::Status& status) {
  std::vector<RequestId> ids;
  for (const auto& [id, request] : requests_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());  // the same order in every run
  for (RequestId id : ids) Cancel(id, status);
}

void EngineCore::Resume(RequestId id) {
  const auto at = requests_.find(id);
  if (at != requests_.end() && at->second.paused) Deliver(at);
}

bool EngineCore::PlanStep() {
  step_start_ = now_();
  EndLateFlushing(step_start_);
  const StepEvents events = std::exchange(events_, StepEvents());
  plan_ = &scheduler_.Step(step_start_, events);
  EndPlanned(*plan_);
  for (const SlotFill& fill : plan_->fills) {
    const EngineRequest& request = requests_.at(fill.id).generation.request();
    executor_->SetMask(fill.slot, fill.shadow ? *request.shadow : *request.mask);
  }
  return !plan_->rows.empty() || !plan_->ended.empty();
}

void EngineCore::ExecuteStep(std::optional<StepReport>* report) {
  report->reset();
  const StepPlan& plan = *plan_;
  if (plan.rows.empty()) return;
  BuildWork(plan);
  for (const PlanRows& rows : plan.rows) requests_.at(rows.id).generation.Begin(step_start_);
  const StepResult& result = executor_->Collect(executor_->Submit(work_));
  const Clock::time_point end = now_();
  TakeResults(plan, result, end);
  events_.step_duration = end - step_start_;
  ++steps_;
  prompt_tokens_ += plan.prefill_tokens;
  report->emplace(StepReport{.tokens = plan.tokens,
                             .sequences = static_cast<int32_t>(plan.rows.size()),
                             .duration = end - step_start_});
}

void EngineCore::EndPlanned(const StepPlan& plan) {
  for (const StepPlan::End& end : plan.ended) {
    const auto at = requests_.find(end.id);
    MONET_CHECK(at != requests_.end());
    Finish(at, end.reason == EndReason::kCancelled
                   ? at->second.cancelled
                   : Error(absl::StatusCode::kDeadlineExceeded, "the deadline passed"));
  }
}

void EngineCore::EndLateFlushing(Clock::time_point now) {
  if (flushing_ == 0) return;
  std::vector<RequestId> late;
  for (const auto& [id, request] : requests_) {
    if (request.flushing && request.generation.request().deadline <= now) late.push_back(id);
  }
  std::sort(late.begin(), late.end());
  for (RequestId id : late) {
    Finish(requests_.find(id), Error(absl::StatusCode::kDeadlineExceeded, "the deadline passed"));
  }
}

void EngineCore::BuildWork(const StepPlan& plan) {
  StepBatch& batch = work_.batch;
  batch.Clear();
  work_.tasks.clear();
  work_.routing.clear();
  for (const PlanRows& rows : plan.rows) {
    batch.table_stride = std::max(batch.table_stride, static_cast<int32_t>(rows.blocks.size()));
  }
  for (size_t sequence = 0; sequence < plan.rows.size(); ++sequence) {
    const PlanRows& rows = plan.rows[sequence];
    const Generation& generation = requests_.at(rows.id).generation;
    for (int32_t n = 0; n < rows.count; ++n) {
      const int32_t position = rows.first_position + n;
      if (rows.logits == RowLogits::kAll ||
          (rows.logits == RowLogits::kLast && n + 1 == rows.count)) {
        batch.logit_rows.push_back(batch.tokens());
        work_.tasks.push_back(generation.TaskFor(position));
      }
      if (generation.WantsRouting(position)) {
        batch.routing_rows.push_back(batch.tokens());
        work_.routing.push_back(generation.RoutingTaskFor(position));
      }
      batch.token_ids.push_back(generation.TokenAt(position));
      batch.positions.push_back(position);
      batch.sequences.push_back(static_cast<int32_t>(sequence));
      batch.mask_slots.push_back(rows.mask_slot);
      batch.shadow_slots.push_back(rows.shadow_slot);
    }
    AddTable(rows.blocks);
  }
  MONET_CHECK(batch.tokens() == plan.tokens);
  MONET_CHECK(static_cast<int32_t>(work_.tasks.size()) == plan.logit_rows);
}

void EngineCore::AddTable(std::span<const int32_t> blocks) {
  std::vector<int32_t>& tables = work_.batch.block_tables;
  tables.insert(tables.end(), blocks.begin(), blocks.end());
  // No block: a row that reads beyond its own table must not find another's.
  tables.insert(tables.end(), work_.batch.table_stride - blocks.size(), -1);
}

void EngineCore::TakeResults(const StepPlan& plan, const StepResult& result,
                             Clock::time_point now) {
  Cursor cursor;
  for (const PlanRows& rows : plan.rows) {
    const auto at = requests_.find(rows.id);
    MONET_CHECK(at != requests_.end());
    Generation& generation = at->second.generation;
    const int32_t tokens_before = generation.completion_tokens();
    absl::Status fault = result.status;
    if (fault.ok() && !TakeRows(rows, result, cursor, now, &generation)) {
      fault = Error(absl::StatusCode::kInternal, "the model's output is not finite");
    }
    generation_tokens_ += generation.completion_tokens() - tokens_before;
    cursor.row += rows.count;
    cursor.logit += LogitRows(rows);
    cursor.routing += RoutingRowsOf(rows, generation);
    if (!fault.ok() || generation.finished()) events_.finished.push_back(rows.id);
    if (!fault.ok()) {
      Finish(at, std::move(fault));
      continue;
    }
    if (generation.finished()) {
      at->second.flushing = true;
      ++flushing_;
    }
    Deliver(at);
  }
}

bool EngineCore::TakeRows(const PlanRows& rows, const StepResult& result, Cursor cursor,
                          Clock::time_point now, Generation* generation) {
  const auto removed = std::span(result.removed_weight).subspan(cursor.row, rows.count);
  const auto shadow = std::span(result.shadow_weight).subspan(cursor.row, rows.count);
  if (!AllFinite(removed) || !AllFinite(shadow)) return false;
  generation->AddRemovedWeight(removed);
  if (rows.shadow_slot >= 0) generation->AddShadowWeight(shadow);
  for (size_t n = 0; n < RoutingRowsOf(rows, *generation); ++n) {
    const RowActivations& activations = result.routing[cursor.routing + n];
    if (activations.fault) return false;
    generation->AddRouting(activations);
  }
  for (size_t n = 0; n < LogitRows(rows); ++n) {
    const RowResult& result_row = result.rows[cursor.logit + n];
    if (result_row.fault) return false;
    generation->AddRow(result_row, now);
  }
  return true;
}

void EngineCore::Deliver(Requests::iterator at) {
  Request& request = at->second;
  if (request.generation.HasDelta()) {
    if (!request.sink->HasRoom()) {
      if (!request.paused && !request.flushing) events_.pauses.push_back(at->first);
      request.paused = true;
      return;
    }
    request.sink->OnDelta(request.generation.TakeDelta());
  }
  if (request.paused && !request.flushing) events_.resumes.push_back(at->first);
  request.paused = false;
  if (request.flushing) Finish(at, absl::OkStatus());
}

void EngineCore::Finish(Requests::iterator at, absl::Status status) {
  Request& request = at->second;
  if (request.flushing) --flushing_;
  EngineResult result =
      request.generation.Result(std::move(status), executor_->routing_weight_per_token(), now_());
  const std::shared_ptr<EngineSink> sink = std::move(request.sink);
  ended_.push_back(at->first);
  requests_.erase(at);
  sink->OnFinish(std::move(result));
}

Clock::time_point EngineCore::NextDeadline() const {
  Clock::time_point next = scheduler_.NextDeadline();
  if (flushing_ == 0) return next;
  for (const auto& [id, request] : requests_) {
    if (request.flushing) next = std::min(next, request.generation.request().deadline);
  }
  return next;
}

std::vector<EngineCore::RequestId> EngineCore::TakeEnded() { return std::exchange(ended_, {}); }

EngineStats EngineCore::Stats() const {
  EngineStats stats;
  stats.running = scheduler_.running();
  stats.waiting = waiting();
  stats.kv_blocks_used = scheduler_.blocks_used();
  stats.kv_blocks = scheduler_.options().kv_blocks;
  stats.mask_slots_used = scheduler_.mask_slots_used();
  stats.steps = steps_;
  stats.prompt_tokens = prompt_tokens_;
  stats.generation_tokens = generation_tokens_;
  return stats;
}

}  // namespace monet
