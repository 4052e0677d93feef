// Budgets on a simulated clock.
#include "runtime/tenant/token_bucket.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/limits.h"

namespace monet {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using TimePoint = TokenBucket::TimePoint;

const TimePoint kStart = TimePoint() + std::chrono::hours(1000);

TEST(TokenBucket, RunsOutAndRefillsEvenly) {
  TokenBucket bucket(600, kStart);  // ten a second
  EXPECT_EQ(bucket.Take(600, kStart), std::nullopt);
  EXPECT_EQ(bucket.Take(1, kStart), milliseconds(100));
  EXPECT_EQ(bucket.Take(5, kStart), milliseconds(500));
  EXPECT_EQ(bucket.Take(600, kStart), seconds(60));
  EXPECT_EQ(bucket.Take(5, kStart + milliseconds(499)), milliseconds(1));
  EXPECT_EQ(bucket.Take(5, kStart + milliseconds(500)), std::nullopt);
  EXPECT_EQ(bucket.Level(kStart + milliseconds(500)), 0);
  EXPECT_EQ(bucket.Level(kStart + milliseconds(1600)), 11);
  // No more than a minute's worth is saved up.
  EXPECT_EQ(bucket.Level(kStart + std::chrono::hours(24 * 365)), 600);
}

TEST(TokenBucket, GivesBackUpToItsSize) {
  TokenBucket bucket(60, kStart);
  EXPECT_EQ(bucket.Take(50, kStart), std::nullopt);
  bucket.Return(20, kStart);
  EXPECT_EQ(bucket.Level(kStart), 30);
  bucket.Return(60, kStart);
  EXPECT_EQ(bucket.Level(kStart), 60);
}

TEST(TokenBucket, AnotherRateKeepsWhatIsSaved) {
  TokenBucket bucket(60, kStart);
  EXPECT_EQ(bucket.Take(50, kStart), std::nullopt);
  bucket.SetRate(600, kStart);
  EXPECT_EQ(bucket.Level(kStart), 10);
  EXPECT_EQ(bucket.Level(kStart + seconds(1)), 20);
  bucket.SetRate(6, kStart + seconds(1));
  EXPECT_EQ(bucket.Level(kStart + seconds(1)), 6);
  bucket.Return(1000, kStart + seconds(1));  // taken when it was larger
  EXPECT_EQ(bucket.Level(kStart + seconds(1)), 6);
}

TEST(TokenBucket, TimeThatRunsBackChangesNothing) {
  TokenBucket bucket(60, kStart);
  EXPECT_EQ(bucket.Take(60, kStart), std::nullopt);
  EXPECT_EQ(bucket.Take(1, kStart - seconds(30)), seconds(1));
  EXPECT_EQ(bucket.Level(kStart + seconds(1)), 1);
}

// A bucket that is looked at often refills as fast as one that is not.
TEST(TokenBucket, FractionsOfMicrosecondsAreNotLost) {
  TokenBucket bucket(60000000, kStart);  // one a microsecond
  EXPECT_EQ(bucket.Take(60000000, kStart), std::nullopt);
  for (int i = 1; i <= 1000; ++i) bucket.Level(kStart + std::chrono::nanoseconds(900 * i));
  EXPECT_EQ(bucket.Level(kStart + microseconds(900)), 900);
}

TEST(TokenBucket, LargestRateDoesNotOverflow) {
  TokenBucket bucket(limits::kMaxPerMinute, kStart);
  EXPECT_EQ(bucket.Take(limits::kMaxPerMinute, kStart), std::nullopt);
  EXPECT_EQ(bucket.Take(limits::kMaxPerMinute, kStart), seconds(60));
  EXPECT_EQ(bucket.Level(kStart + std::chrono::hours(1000000)), limits::kMaxPerMinute);
}

// Whoever waits as long as he is told gets what he asked for, and over any time no more than the
// first minute's worth and the rate is taken.
TEST(TokenBucket, KeepsItsPromisesOverRandomCalls) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const int64_t rate = std::uniform_int_distribution<int64_t>(1, 1000)(random);
    TokenBucket bucket(rate, kStart);
    TimePoint now = kStart;
    int64_t taken = 0;
    for (int call = 0; call < 200; ++call) {
      now +=
          std::chrono::nanoseconds(std::uniform_int_distribution<int64_t>(0, 2000000000)(random));
      const int64_t amount = std::uniform_int_distribution<int64_t>(0, rate)(random);
      const auto wait = bucket.Take(amount, now);
      if (wait) {
        ASSERT_GT(wait->count(), 0);
        ASSERT_LE(*wait, seconds(60));
        now += *wait;
        ASSERT_EQ(bucket.Take(amount, now), std::nullopt) << "round " << round;
      }
      taken += amount;
      const double minutes = std::chrono::duration<double>(now - kStart).count() / 60;
      ASSERT_LE(static_cast<double>(taken), static_cast<double>(rate) * (1 + minutes) + 1e-6);
    }
  }
}

}  // namespace
}  // namespace monet
