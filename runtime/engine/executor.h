// Runs planned steps: the model, then what is wanted of each row of logits. Submit and Collect are
// apart so that a device can work while the next step is planned; on a CPU Submit does it all.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/model/step_model.h"
#include "runtime/policy/routing_pairs.h"
#include "runtime/sample/sampler.h"

namespace monet {

// What is wanted of one row of logits. What it points to belongs to the sequence and must live
// unchanged as long as the step.
struct RowTask {
  enum class Kind : uint8_t { kSample, kScore };

  Kind kind = Kind::kSample;
  // kSample: the next token.
  const SamplingParams* sampling = nullptr;
  SequenceContext sequence;
  uint64_t seed = 0;
  uint32_t sample = 0;
  uint64_t position = 0;  // of the new token in its sequence
  // kScore: the log-probability of this token.
  int32_t target = 0;
  int32_t top_logprobs = 0;  // also this many most probable tokens
};

// What is wanted of the routing of one row. The mask belongs to the sequence and must live
// unchanged as long as the step.
struct RoutingTask {
  const ExpertMask* mask = nullptr;
  RoutingSelection selection;
  int32_t position = 0;  // of the row in its sequence
};

struct StepWork {
  StepBatch batch;
  std::vector<RowTask> tasks;        // (N) one for each of batch.logit_rows
  std::vector<RoutingTask> routing;  // one for each of batch.routing_rows
};

struct RowResult {
  int32_t id = 0;
  float logprob = 0;
  std::vector<SampledToken> top;  // as RowTask::top_logprobs
  bool fault = false;  // the row's logits were not finite; nothing else here means anything
};

struct RowActivations {
  std::vector<TokenActivation> routers;  // (R)
  bool fault = false;  // the row's gates were not finite; nothing else here means anything
};

struct StepResult {
  // Not OK when the step as a whole failed: then nothing else here means anything.
  absl::Status status;
  std::vector<RowResult> rows;          // (N)
  std::vector<float> removed_weight;    // (T)
  std::vector<float> shadow_weight;     // (T)
  std::vector<RowActivations> routing;  // one for each of the work's
};

// Not thread-safe: the engine's thread alone calls it. One step is in flight at most.
class Executor {
 public:
  using Ticket = uint64_t;

  virtual ~Executor() = default;

  virtual const StepLimits& limits() const = 0;
  virtual int32_t vocabulary() const = 0;
  virtual double routing_weight_per_token() const = 0;

  // As StepModel. Must not fail: a slot whose content is unknown could run a request without its
  // mask, so an exception here ends the process.
  virtual void SetMask(int32_t slot, const ExpertMask& mask) noexcept = 0;
  virtual void PoisonBlock(int32_t block) = 0;

  // `work` must live unchanged until Collect.
  virtual Ticket Submit(const StepWork& work) = 0;
  // The result lives until the next Submit.
  virtual const StepResult& Collect(Ticket ticket) = 0;
};

// Runs a step within Submit, on the caller's thread.
class SyncExecutor final : public Executor {
 public:
  // The model must outlive the executor.
  explicit SyncExecutor(StepModel* model) : model_(model) {}

  const StepLimits& limits() const override { return model_->limits(); }
  int32_t vocabulary() const override { return model_->vocabulary(); }
  double routing_weight_per_token() const override { return model_->routing_weight_per_token(); }
  void SetMask(int32_t slot, const ExpertMask& mask) noexcept override {
    model_->SetMask(slot, mask);
  }
  void PoisonBlock(int32_t block) override { model_->PoisonBlock(block); }
  Ticket Submit(const StepWork& work) override;
  const StepResult& Collect(Ticket ticket) override;

 private:
  void Run(const StepWork& work);
  void TakeLogits(const StepWork& work, const StepOutput& output);
  void TakeRouting(const StepWork& work, const StepOutput& output);

  StepModel* model_;
  Sampler sampler_;
  RoutingPairs pairs_;
  StepResult result_;
  Ticket ticket_ = 0;
};

}  // namespace monet
