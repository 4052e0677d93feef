#include "server/admission.h"

#include <utility>

#include "runtime/base/reasons.h"

namespace monet::server {

Admission::Pass& Admission::Pass::operator=(Pass&& other) noexcept {
  if (this == &other) return *this;
  Leave();
  admission_ = std::exchange(other.admission_, nullptr);
  model_ = std::exchange(other.model_, nullptr);
  return *this;
}

void Admission::Pass::Leave() {
  Admission* admission = std::exchange(admission_, nullptr);
  model_ = nullptr;
  if (admission == nullptr) return;
  // Notified under the mutex: after it the waiter may destroy the admission.
  std::lock_guard lock(admission->mutex_);
  if (--admission->inside_ == 0) admission->empty_.notify_all();
}

void Admission::Open(ServingModel* model) {
  std::lock_guard lock(mutex_);
  if (phase_ != Phase::kLoading) return;
  model_ = model;
  phase_ = Phase::kServing;
}

void Admission::StartDrain() {
  std::lock_guard lock(mutex_);
  phase_ = Phase::kDraining;
}

absl::StatusOr<Admission::Pass> Admission::Enter() {
  std::lock_guard lock(mutex_);
  if (phase_ == Phase::kLoading) {
    return Refuse(Reason::kLoading, "the model is loading");
  }
  if (phase_ == Phase::kDraining) {
    return Refuse(Reason::kDraining, "the server is draining");
  }
  Pass pass;
  pass.admission_ = this;
  pass.model_ = model_;
  ++inside_;
  return pass;
}

bool Admission::draining() const {
  std::lock_guard lock(mutex_);
  return phase_ == Phase::kDraining;
}

int64_t Admission::inside() const {
  std::lock_guard lock(mutex_);
  return inside_;
}

bool Admission::WaitEmpty(Clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  const auto empty = [this] { return inside_ == 0; };
  if (deadline == Clock::time_point::max()) {
    empty_.wait(lock, empty);
    return true;
  }
  return empty_.wait_until(lock, deadline, empty);
}

}  // namespace monet::server
