// A step model that says what it is told: after position p of any sequence comes token
// script[p + 1], with certainty; a key/value cache it has not.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/model/step_model.h"

namespace monet {

class ScriptedModel final : public StepModel {
 public:
  static constexpr int32_t kVocabulary = 32;

  ScriptedModel(const StepLimits& limits, std::vector<int32_t> script,
                std::function<void(const StepBatch&)> on_run = nullptr)
      : limits_(limits), script_(std::move(script)), on_run_(std::move(on_run)) {}

  int64_t steps() const { return steps_; }

  int32_t vocabulary() const override { return kVocabulary; }
  double routing_weight_per_token() const override { return 4; }
  const StepLimits& limits() const override { return limits_; }
  void SetMask(int32_t, const ExpertMask&) override {}

  // Masked rows lose a quarter of their routing weight.
  StepOutput Run(const StepBatch& batch) override {
    if (on_run_) on_run_(batch);
    ++steps_;
    logits_.assign(batch.logit_rows.size() * kVocabulary, 0.0f);
    for (size_t n = 0; n < batch.logit_rows.size(); ++n) {
      const size_t next = batch.positions[batch.logit_rows[n]] + 1;
      logits_[n * kVocabulary + (next < script_.size() ? script_[next] : 0)] = 100;
    }
    removed_.clear();
    for (int32_t slot : batch.mask_slots) removed_.push_back(slot < 0 ? 0.0f : 1.0f);
    shadow_.assign(batch.shadow_slots.size(), 0.0f);
    return {logits_, removed_, shadow_};
  }

 private:
  const StepLimits limits_;
  const std::vector<int32_t> script_;
  const std::function<void(const StepBatch&)> on_run_;
  std::vector<float> logits_;
  std::vector<float> removed_;
  std::vector<float> shadow_;
  int64_t steps_ = 0;
};

}  // namespace monet
