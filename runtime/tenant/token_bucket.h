// A budget that refills evenly: so much a minute, and at most a minute's worth saved up. Integer
// arithmetic on the caller's clock, so that it never drifts and tests can replay it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace monet {

// Not thread-safe.
class TokenBucket {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Full. REQUIRES: per_minute in [1, limits::kMaxPerMinute].
  TokenBucket(int64_t per_minute, TimePoint now);

  // What is saved up stays, as far as it still fits.
  void SetRate(int64_t per_minute, TimePoint now);
  // Takes the amount and returns nothing, or takes nothing and returns the time until there is
  // enough, rounded up to microseconds. REQUIRES: 0 <= amount <= per_minute().
  std::optional<std::chrono::microseconds> Take(int64_t amount, TimePoint now);
  // Gives back what was taken and not used.
  void Return(int64_t amount, TimePoint now);

  int64_t per_minute() const { return per_minute_; }
  // Whole tokens that there are.
  int64_t Level(TimePoint now);

 private:
  void Refill(TimePoint now);
  int64_t Capacity() const;

  int64_t per_minute_;
  int64_t level_;   // in 1/60,000,000 token: a microsecond brings per_minute_ of them
  TimePoint last_;  // whole microseconds up to here are in level_
};

}  // namespace monet
