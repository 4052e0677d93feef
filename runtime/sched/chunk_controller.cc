#include "runtime/sched/chunk_controller.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace monet {
namespace {

// One slow or fast step (a page fault, a neighbour) moves the budget by no more than these.
constexpr double kFastestShrink = 0.5;
constexpr double kFastestGrowth = 1.5;

}  // namespace

ChunkController::ChunkController(int32_t max_tokens, std::chrono::nanoseconds target)
    : max_tokens_(max_tokens),
      target_ns_(static_cast<double>(target.count())),
      budget_(max_tokens) {
  MONET_CHECK(max_tokens >= 1);
  MONET_CHECK(target.count() > 0);
}

void ChunkController::Observe(int32_t prefill_tokens, std::chrono::nanoseconds duration) {
  if (prefill_tokens <= 0) return;
  const double measured_ns = std::max(1.0, static_cast<double>(duration.count()));
  const double wanted = prefill_tokens * (target_ns_ / measured_ns);
  if (wanted < budget_) {
    // A short last chunk that was fast enough is no reason to shrink.
    if (prefill_tokens < budget() && measured_ns <= target_ns_) return;
    budget_ = std::max(wanted, budget_ * kFastestShrink);
  } else {
    // The "+ 1" lets a budget of 1 grow.
    budget_ = std::min(wanted, std::max(budget_ * kFastestGrowth, budget_ + 1));
  }
  budget_ = std::clamp(budget_, 1.0, max_tokens_);
}

}  // namespace monet
