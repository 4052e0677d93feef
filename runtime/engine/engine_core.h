// The engine without its thread: everything that happens in and between steps, over an executor and
// a clock that are given. The threaded Engine and the simulation tests run the same code.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/executor.h"
#include "runtime/engine/generation.h"
#include "runtime/sched/scheduler.h"

namespace monet {

// Not thread-safe but for Check. Sinks are called within its methods and must not call back into
// it.
class EngineCore {
 public:
  using RequestId = Engine::RequestId;
  using Now = std::function<Clock::time_point()>;

  EngineCore(std::unique_ptr<Executor> executor, TokenText text, EngineOptions options, Now now);

  // Whether a request is valid and could run on an idle machine. Errors: INVALID_ARGUMENT,
  // RESOURCE_EXHAUSTED; they name field and limit. Thread-safe.
  absl::Status Check(const EngineRequest& request) const;

  // Events; they take effect in the next RunStep. Unknown ids are ignored.
  // REQUIRES: Check is OK, the id is new, waiting() < max_queue.
  void Add(RequestId id, EngineRequest request, std::shared_ptr<EngineSink> sink,
           Clock::time_point submitted);
  void Cancel(RequestId id, const absl::Status& status);
  void CancelAll(const absl::Status& status);
  void Resume(RequestId id);

  // First half of a step: takes in the events, ends what is cancelled or late, admits and plans.
  // False when there was nothing to do and nothing will be until an event comes or NextDeadline()
  // passes.
  bool PlanStep();
  // Second half: runs the planned rows, if there are any, and hands out. `report` is filled when
  // rows ran. REQUIRES: no event since PlanStep.
  void ExecuteStep(std::optional<StepReport>* report);
  // Both halves.
  bool RunStep(std::optional<StepReport>* report) {
    const bool busy = PlanStep();
    ExecuteStep(report);
    return busy;
  }

  int32_t waiting() const { return scheduler_.waiting() + static_cast<int32_t>(arrivals()); }
  // What max_queue bounds: waiting() and requests that wait for their client to take the end.
  int32_t queued() const { return waiting() + flushing_; }
  // Nothing is left, in the scheduler neither.
  bool idle() const { return requests_.empty() && events_.finished.empty(); }
  Clock::time_point NextDeadline() const;
  // Requests that have ended since the last call.
  std::vector<RequestId> TakeEnded();
  // All but the heartbeat.
  EngineStats Stats() const;
  const FairShare& shares() const { return scheduler_.shares(); }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  struct Request {
    Request(Generation g, std::shared_ptr<EngineSink> s)
        : generation(std::move(g)), sink(std::move(s)) {}

    Generation generation;
    std::shared_ptr<EngineSink> sink;
    bool paused = false;    // a delta waits for room
    bool flushing = false;  // finished; out of the scheduler
    absl::Status cancelled = absl::CancelledError();
  };
  using Requests = std::unordered_map<RequestId, Request>;

  size_t arrivals() const { return events_.arrivals.size(); }
  static Arrival ArrivalOf(RequestId id, const EngineRequest& request);
  void EndPlanned(const StepPlan& plan);
  void EndLateFlushing(Clock::time_point now);
  void BuildWork(const StepPlan& plan);
  void AddTable(std::span<const int32_t> blocks);
  void TakeResults(const StepPlan& plan, const StepResult& result, Clock::time_point now);
  // The next of a step's results.
  struct Cursor {
    size_t row = 0;
    size_t logit = 0;
    size_t routing = 0;
  };
  // Takes these rows' results from `cursor` on. False when the request is at fault.
  bool TakeRows(const PlanRows& rows, const StepResult& result, Cursor cursor,
                Clock::time_point now, Generation* generation);
  // Hands out what is there. The request may be gone afterwards.
  void Deliver(Requests::iterator at);
  void Finish(Requests::iterator at, absl::Status status);

  std::unique_ptr<Executor> executor_;
  const TokenText text_;
  const EngineOptions options_;
  const Now now_;
  Scheduler scheduler_;
  Requests requests_;
  StepEvents events_;               // for the next step
  const StepPlan* plan_ = nullptr;  // the scheduler's, until its next Step
  Clock::time_point step_start_;
  StepWork work_;
  std::vector<RequestId> ended_;
  int32_t flushing_ = 0;
  int64_t steps_ = 0;
  int64_t prompt_tokens_ = 0;
  int64_t generation_tokens_ = 0;
};

}  // namespace monet
