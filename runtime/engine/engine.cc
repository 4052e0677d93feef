#include "runtime/engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <unordered_set>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/reasons.h"
#include "runtime/engine/engine_core.h"

namespace monet {
namespace {

// How often an idle engine shows that it lives.
constexpr std::chrono::milliseconds kHeartbeat{200};

}  // namespace

// `mutex` guards what callers and the engine's thread share; it is never held while the model runs
// or a sink is called. `core` belongs to the thread alone, but for Check.
struct Engine::Impl {
  struct Submission {
    RequestId id = 0;
    EngineRequest request;
    std::shared_ptr<EngineSink> sink;
    Clock::time_point submitted;
  };

  // What callers have asked for since the last step. Bounded: submissions by max_queue, the sets by
  // the number of live requests.
  struct Inbox {
    std::vector<Submission> submissions;
    std::set<RequestId> cancels;
    std::set<RequestId> resumes;
    std::optional<absl::Status> cancel_all;

    bool empty() const {
      return submissions.empty() && cancels.empty() && resumes.empty() && !cancel_all;
    }
  };

  Impl(StepModel* model, TokenText text, EngineOptions options_in,
       std::function<void(const StepReport&)> on_step_in)
      : options(options_in),
        on_step(std::move(on_step_in)),
        core(std::make_unique<SyncExecutor>(model), std::move(text), options_in,
             [] { return Clock::now(); }) {
    stats = core.Stats();
    stats.last_step = Clock::now();
    thread = std::thread([this] { Loop(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
      draining = true;
      inbox.cancel_all = Error(absl::StatusCode::kCancelled, "the engine stops");
    }
    wake.notify_one();
    thread.join();
  }

  absl::StatusOr<std::vector<RequestId>> Submit(const EngineRequest& request,
                                                std::vector<std::shared_ptr<EngineSink>> sinks) {
    MONET_RETURN_IF_ERROR(core.Check(request));
    std::vector<Submission> samples;
    const Clock::time_point now = Clock::now();
    for (std::shared_ptr<EngineSink>& sink : sinks) {
      Submission& sample = samples.emplace_back(Submission{0, request, std::move(sink), now});
      if (samples.size() == 1) continue;
      sample.request.sample = request.sample + static_cast<uint32_t>(samples.size()) - 1;
      sample.request.prompt_logprobs = false;
      sample.request.prompt_routing = false;
    }
    std::vector<RequestId> ids;
    {
      const std::lock_guard lock(mutex);
      if (draining) return Refuse(Reason::kDraining, "the server is draining");
      MONET_RETURN_IF_ERROR(CheckRoom(request.tenant, samples.size()));
      for (Submission& sample : samples) {
        sample.id = next_id++;
        ids.push_back(sample.id);
        live.insert(sample.id);
        if (options.share_queue) ++waiting_of[request.tenant];
        inbox.submissions.push_back(std::move(sample));
      }
    }
    wake.notify_one();
    return ids;
  }

  // With the mutex held.
  absl::Status CheckRoom(const std::string& tenant, size_t places) const {
    const size_t taken = static_cast<size_t>(queued) + inbox.submissions.size();
    if (taken + places <= static_cast<size_t>(options.max_queue)) {
      return CheckShare(tenant, places, static_cast<size_t>(options.max_queue) - taken);
    }
    if (places == 1) {
      return Refuse(Reason::kQueueFull, "the queue is full: max_queue is {} waiting requests",
                    options.max_queue);
    }
    return Refuse(Reason::kQueueFull,
                  "the queue has no room for n = {}: max_queue is {} waiting requests", places,
                  options.max_queue);
  }

  // What a refusal says is the caller's own or configured: how much others wait is theirs.
  // With the mutex held. After the dynamic thresholds of Choudhury and Hahne (1998): who has much
  // gets no more, and others' first requests are taken as long as a place is free.
  absl::Status CheckShare(const std::string& tenant, size_t places, size_t free) const {
    // Nothing waits: a call of many places would else never be taken by a small queue.
    if (!options.share_queue || free == static_cast<size_t>(options.max_queue)) {
      return absl::OkStatus();
    }
    const auto found = waiting_of.find(tenant);
    const size_t mine = found == waiting_of.end() ? 0 : static_cast<size_t>(found->second);
    // As if the places were taken one after the other, each by the rule for one.
    if (mine + places <= free - (places - 1)) return absl::OkStatus();
    return Refuse(Reason::kQueueFull,
                  "the queue is full for this tenant: {} of its requests wait, and it may have no "
                  "more of the {} places now",
                  mine, options.max_queue);
  }

  void Signal(RequestId id, std::set<RequestId> Inbox::*set) {
    {
      const std::lock_guard lock(mutex);
      if (!live.contains(id)) return;
      (inbox.*set).insert(id);
    }
    wake.notify_one();
  }

  void Drain(Clock::time_point deadline) {
    std::unique_lock lock(mutex);
    draining = true;
    const auto none_left = [this] { return live.empty() && core_idle; };
    // wait_until with the end of time overflows in some implementations.
    if (deadline == Clock::time_point::max()) {
      drained.wait(lock, none_left);
      return;
    }
    if (drained.wait_until(lock, deadline, none_left)) return;
    inbox.cancel_all = Refuse(Reason::kDraining, "the server stopped before the request ended");
    wake.notify_one();
    drained.wait(lock, none_left);
  }

  void Loop() {
    bool busy = false;
    while (true) {
      Inbox taken;
      {
        std::unique_lock lock(mutex);
        if (!busy) Wait(&lock);
        taken = std::exchange(inbox, Inbox());
        queued += static_cast<int32_t>(taken.submissions.size());
        stats.waiting += static_cast<int64_t>(taken.submissions.size());
        core_idle = core_idle && taken.empty();
      }
      TakeIn(std::move(taken));
      // Published in between too: what was admitted counts as waiting no longer, and callers need
      // not wait for a step's end to know.
      busy = core.PlanStep();
      Publish();
      std::optional<StepReport> report;
      core.ExecuteStep(&report);
      if (report && on_step) on_step(*report);
      Publish();
      const std::lock_guard lock(mutex);
      // With `stop` set nothing new comes in: when all have ended, that is the end.
      if (stop && live.empty() && inbox.empty()) return;
    }
  }

  // Until there is something to do, a deadline passes or the heartbeat is due.
  void Wait(std::unique_lock<std::mutex>* lock) {
    const Clock::time_point until = std::min(core.NextDeadline(), Clock::now() + kHeartbeat);
    wake.wait_until(*lock, until, [this] { return !inbox.empty(); });
  }

  void TakeIn(Inbox taken) {
    for (Submission& submission : taken.submissions) {
      core.Add(submission.id, std::move(submission.request), std::move(submission.sink),
               submission.submitted);
    }
    for (RequestId id : taken.resumes) core.Resume(id);
    for (RequestId id : taken.cancels) {
      core.Cancel(id, Error(absl::StatusCode::kCancelled, "the request was cancelled"));
    }
    if (taken.cancel_all) core.CancelAll(*taken.cancel_all);
  }

  void Publish() {
    const EngineStats now = core.Stats();
    const std::vector<RequestId> ended = core.TakeEnded();
    bool none_left = false;
    {
      const std::lock_guard lock(mutex);
      stats = now;
      stats.last_step = Clock::now();
      queued = core.queued();
      core_idle = core.idle();
      if (options.share_queue) CountWaiting();
      for (RequestId id : ended) live.erase(id);
      none_left = live.empty() && core_idle;
    }
    if (none_left) drained.notify_all();
  }

  // With the mutex held.
  void CountWaiting() {
    waiting_of.clear();
    for (const auto& [name, tenant] : core.shares().tenants()) {
      if (tenant.waiting > 0) waiting_of[name] = tenant.waiting;
    }
    for (const Submission& submission : inbox.submissions) ++waiting_of[submission.request.tenant];
  }

  EngineStats Stats() const {
    const std::lock_guard lock(mutex);
    EngineStats result = stats;
    result.waiting += static_cast<int64_t>(inbox.submissions.size());
    return result;
  }

  const EngineOptions options;
  const std::function<void(const StepReport&)> on_step;
  EngineCore core;

  mutable std::mutex mutex;
  std::condition_variable wake;     // the thread: the inbox has something
  std::condition_variable drained;  // Drain: nothing is left
  Inbox inbox;
  std::map<std::string, int32_t> waiting_of;  // by tenant, not yet running; with share_queue
  std::unordered_set<RequestId> live;         // submitted and not ended
  RequestId next_id = 1;
  int32_t queued = 0;     // core.queued(), never too small
  bool core_idle = true;  // core.idle() after its last step
  bool draining = false;
  bool stop = false;
  EngineStats stats;

  std::thread thread;  // last: it uses all of the above
};

Engine::Engine(StepModel* model, const Tokenizer* tokenizer, EngineOptions options,
               std::function<void(const StepReport&)> on_step)
    : Engine(model, TextOf(tokenizer), options, std::move(on_step)) {}

Engine::Engine(StepModel* model, TokenText text, EngineOptions options,
               std::function<void(const StepReport&)> on_step)
    : impl_(std::make_unique<Impl>(model, std::move(text), options, std::move(on_step))) {}

Engine::~Engine() = default;

absl::StatusOr<Engine::RequestId> Engine::Submit(EngineRequest request,
                                                 std::shared_ptr<EngineSink> sink) {
  std::vector<std::shared_ptr<EngineSink>> sinks;
  sinks.push_back(std::move(sink));
  MONET_ASSIGN_OR_RETURN(const std::vector<RequestId> ids,
                         impl_->Submit(request, std::move(sinks)));
  return ids[0];
}

absl::StatusOr<std::vector<Engine::RequestId>> Engine::SubmitSamples(
    const EngineRequest& request, std::vector<std::shared_ptr<EngineSink>> sinks) {
  MONET_CHECK(!sinks.empty());
  return impl_->Submit(request, std::move(sinks));
}

void Engine::Cancel(RequestId id) { impl_->Signal(id, &Impl::Inbox::cancels); }

void Engine::Resume(RequestId id) { impl_->Signal(id, &Impl::Inbox::resumes); }

void Engine::Drain(Clock::time_point deadline) { impl_->Drain(deadline); }

EngineStats Engine::Stats() const { return impl_->Stats(); }

}  // namespace monet
