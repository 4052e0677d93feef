#include "runtime/tenant/token_bucket.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/limits.h"

namespace monet {
namespace {

using std::chrono::microseconds;

constexpr int64_t kMinute = 60000000;  // microseconds
// The largest level, and what one refill can add to it.
static_assert(limits::kMaxPerMinute <= INT64_MAX / kMinute / 4);

}  // namespace

TokenBucket::TokenBucket(int64_t per_minute, TimePoint now)
    : per_minute_(per_minute), level_(per_minute * kMinute), last_(now) {
  MONET_CHECK(per_minute >= 1 && per_minute <= limits::kMaxPerMinute);
}

int64_t TokenBucket::Capacity() const { return per_minute_ * kMinute; }

void TokenBucket::Refill(TimePoint now) {
  if (now <= last_) return;
  const auto elapsed = std::chrono::floor<microseconds>(now - last_);
  last_ += elapsed;
  level_ = std::min(Capacity(), level_ + std::min(elapsed.count(), kMinute) * per_minute_);
}

void TokenBucket::SetRate(int64_t per_minute, TimePoint now) {
  if (per_minute == per_minute_) return;
  MONET_CHECK(per_minute >= 1 && per_minute <= limits::kMaxPerMinute);
  Refill(now);
  per_minute_ = per_minute;
  level_ = std::min(level_, Capacity());
}

std::optional<microseconds> TokenBucket::Take(int64_t amount, TimePoint now) {
  MONET_CHECK(amount >= 0 && amount <= per_minute_);
  Refill(now);
  const int64_t missing = amount * kMinute - level_;
  if (missing > 0) return microseconds((missing + per_minute_ - 1) / per_minute_);
  level_ -= amount * kMinute;
  return std::nullopt;
}

void TokenBucket::Return(int64_t amount, TimePoint now) {
  Refill(now);
  // Compared before multiplying: what was taken may be more than a rate lowered since.
  amount = std::min(amount, per_minute_);
  level_ = std::min(Capacity(), level_ + amount * kMinute);
}

int64_t TokenBucket::Level(TimePoint now) {
  Refill(now);
  return level_ / kMinute;
}

}  // namespace monet
