// One forward step of a Monet model over any backend: the only place that knows the layer graph.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/backend.h"
#include "runtime/base/status.h"
#include "runtime/model/config.h"
#include "runtime/model/step_model.h"
#include "runtime/model/weights.h"

namespace monet {

// Sees intermediate results, for tests and dumps. Pointers are host memory, valid during
// the call.
class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;
  // Residual stream before layer `layer`; layer == L: after the final norm (all rows).
  virtual void OnHidden(int32_t /*layer*/, std::span<const float> /*hidden (T, D)*/) {}
  virtual void OnRouting(int32_t /*router*/, const kernels::Routing& /*routing*/,
                         int32_t /*tokens*/) {}
};

class Forward final : public StepModel {
 public:
  // The backend must outlive the result and hold the weights; it is prepared for these limits, so
  // a backend serves the Forward that was created last. Errors: RESOURCE_EXHAUSTED when the
  // working memory cannot be had; INVALID_ARGUMENT for limits out of range.
  static absl::StatusOr<std::unique_ptr<Forward>> Create(kernels::Backend* backend,
                                                         const Weights* weights,
                                                         const StepLimits& limits);
  ~Forward() override;

  int32_t vocabulary() const override;
  double routing_weight_per_token() const override;
  const StepLimits& limits() const override;
  void SetMask(int32_t slot, const ExpertMask& mask) override;
  StepOutput Run(const StepBatch& batch) override;

  // Null for none. Not owned.
  void set_observer(ForwardObserver* observer);

 private:
  struct Impl;
  explicit Forward(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace monet
