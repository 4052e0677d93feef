// Whether the server takes calls: the gate that every call passes, and the count of calls inside.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "server/serving_model.h"

namespace monet::server {

// Thread-safe.
class Admission {
 public:
  // A call inside the gate; leaves when destroyed.
  class Pass {
   public:
    Pass() = default;
    Pass(Pass&& other) noexcept { *this = std::move(other); }
    Pass& operator=(Pass&& other) noexcept;
    ~Pass() { Leave(); }
    void Leave();
    ServingModel* model() const { return model_; }

   private:
    friend class Admission;
    Admission* admission_ = nullptr;
    ServingModel* model_ = nullptr;
  };

  // From now on calls come in. The model must outlive them: see WaitEmpty.
  void Open(ServingModel* model);
  // New calls are refused; those inside go on.
  void StartDrain();

  // Errors: UNAVAILABLE while loading and while draining.
  absl::StatusOr<Pass> Enter();
  bool draining() const;
  // Calls inside the gate.
  int64_t inside() const;

  // True when no call is inside, false at the deadline.
  bool WaitEmpty(Clock::time_point deadline);

 private:
  enum class Phase : uint8_t { kLoading, kServing, kDraining };

  mutable std::mutex mutex_;
  std::condition_variable empty_;
  Phase phase_ = Phase::kLoading;
  ServingModel* model_ = nullptr;
  int64_t inside_ = 0;
};

}  // namespace monet::server
