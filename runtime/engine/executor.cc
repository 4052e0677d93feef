#include "runtime/engine/executor.h"

#include <exception>
#include <span>

#include "runtime/base/check.h"
#include "runtime/engine/all_finite.h"

namespace monet {
Executor::Ticket SyncExecutor::Submit(const StepWork& work) {
  result_.status = absl::OkStatus();
  result_.rows.clear();
  result_.removed_weight.clear();
  result_.shadow_weight.clear();
  result_.routing.clear();
  try {
    Run(work);
  } catch (const std::exception&) {
    // What it says may name paths or sizes of the server: not for clients.
    result_.status = Error(absl::StatusCode::kInternal, "the model failed in this step");
  }
  return ++ticket_;
}

void SyncExecutor::Run(const StepWork& work) {
  const StepOutput output = model_->Run(work.batch);
  MONET_CHECK(output.removed_weight.size() == work.batch.token_ids.size());
  MONET_CHECK(output.shadow_weight.size() == work.batch.token_ids.size());
  result_.removed_weight.assign(output.removed_weight.begin(), output.removed_weight.end());
  result_.shadow_weight.assign(output.shadow_weight.begin(), output.shadow_weight.end());
  TakeLogits(work, output);
  TakeRouting(work, output);
}

void SyncExecutor::TakeLogits(const StepWork& work, const StepOutput& output) {
  const size_t vocabulary = model_->vocabulary();
  MONET_CHECK(work.tasks.size() == work.batch.logit_rows.size());
  MONET_CHECK(output.logits.size() == work.tasks.size() * vocabulary);
  for (size_t n = 0; n < work.tasks.size(); ++n) {
    const RowTask& task = work.tasks[n];
    const std::span<const float> logits = output.logits.subspan(n * vocabulary, vocabulary);
    RowResult& row = result_.rows.emplace_back();
    if (!AllFinite(logits)) {
      row.fault = true;
      continue;
    }
    if (task.top_logprobs > 0) row.top = sampler_.Top(logits, task.top_logprobs);
    if (task.kind == RowTask::Kind::kScore) {
      row.id = task.target;
      row.logprob = LogProb(logits, task.target);
    } else {
      const SampledToken token = sampler_.Sample(logits, *task.sampling, task.sequence, task.seed,
                                                 task.sample, task.position);
      row.id = token.id;
      row.logprob = token.logprob;
    }
  }
}

void SyncExecutor::TakeRouting(const StepWork& work, const StepOutput& output) {
  MONET_CHECK(work.routing.size() == work.batch.routing_rows.size());
  if (work.routing.empty()) return;
  MONET_CHECK(output.routing != nullptr && output.routing->rows() == std::ssize(work.routing));
  for (int32_t n = 0; n < output.routing->rows(); ++n) {
    const RoutingTask& task = work.routing[n];
    RowActivations& row = result_.routing.emplace_back();
    for (int32_t router = 0; router < output.routing->routers(); ++router) {
      const RowRouting routing = output.routing->At(n, router);
      row.fault = row.fault || !AllFinite(routing.gate);
      if (row.fault) break;
      row.routers.push_back(pairs_.Select(routing, router, *task.mask, task.selection));
      row.routers.back().position = task.position;
    }
  }
}

const StepResult& SyncExecutor::Collect(Ticket ticket) {
  MONET_CHECK(ticket == ticket_);
  return result_;
}

}  // namespace monet
