#include "runtime/sched/chunk_controller.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace monet {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A step of `tokens` prompt tokens beside decode rows takes base + tokens · cost.
nanoseconds StepTime(nanoseconds base, nanoseconds cost, int32_t tokens) {
  return base + tokens * cost;
}

TEST(ChunkController, StartsAtTheMaximum) {
  EXPECT_EQ(ChunkController(64, milliseconds(100)).budget(), 64);
}

TEST(ChunkController, ConvergesToTheChunkThatMeetsTheTarget) {
  for (int base_ms : {0, 20, 50}) {
    SCOPED_TRACE(base_ms);
    ChunkController chunks(64, milliseconds(100));
    const double best = (100.0 - base_ms) / 5.0;
    for (int step = 0; step < 40; ++step) {
      chunks.Observe(chunks.budget(),
                     StepTime(milliseconds(base_ms), milliseconds(5), chunks.budget()));
    }
    EXPECT_LE(std::abs(chunks.budget() - best), 1.0);
  }
}

TEST(ChunkController, StaysWithinItsBounds) {
  ChunkController slow(64, milliseconds(1));
  for (int step = 0; step < 20; ++step) slow.Observe(slow.budget(), milliseconds(1000));
  EXPECT_EQ(slow.budget(), 1);
  for (int step = 0; step < 20; ++step) slow.Observe(slow.budget(), nanoseconds(0));
  EXPECT_EQ(slow.budget(), 64);
}

TEST(ChunkController, OneOutlierMovesItByAHalf) {
  ChunkController chunks(64, milliseconds(100));
  chunks.Observe(64, std::chrono::seconds(10));
  EXPECT_EQ(chunks.budget(), 32);
  chunks.Observe(32, nanoseconds(1));
  EXPECT_EQ(chunks.budget(), 48);
}

TEST(ChunkController, AFastShortLastChunkDoesNotShrinkIt) {
  ChunkController chunks(64, milliseconds(100));
  chunks.Observe(3, milliseconds(50));  // alone it would ask for 6
  EXPECT_EQ(chunks.budget(), 64);
  chunks.Observe(0, std::chrono::seconds(1));  // decode only: says nothing about chunks
  EXPECT_EQ(chunks.budget(), 64);
}

}  // namespace
}  // namespace monet
