#include "runtime/kv/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace monet {
namespace {

TEST(BlockPool, HandsOutDistinctBlocksAndTakesThemBack) {
  BlockPool pool(4);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(pool.Allocate(3, &blocks));
  EXPECT_EQ(std::set<int32_t>(blocks.begin(), blocks.end()).size(), 3u);
  EXPECT_EQ(pool.used(), 3);
  for (int32_t block : blocks) pool.Release(block);
  EXPECT_EQ(pool.free(), 4);
  pool.CheckInvariants();
}

TEST(BlockPool, RefusesAsAWholeWhenTooFewAreFree) {
  BlockPool pool(4);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(pool.Allocate(3, &blocks));
  EXPECT_FALSE(pool.Allocate(2, &blocks));
  EXPECT_EQ(blocks.size(), 3u);
  EXPECT_EQ(pool.free(), 1);
}

TEST(BlockPool, KeepsABlockUntilItsLastReference) {
  BlockPool pool(1);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(pool.Allocate(1, &blocks));
  pool.AddReference(blocks[0]);
  pool.Release(blocks[0]);
  EXPECT_EQ(pool.free(), 0);
  pool.Release(blocks[0]);
  EXPECT_EQ(pool.free(), 1);
}

TEST(BlockPool, TellsOfReuseOnly) {
  std::vector<int32_t> reused;
  BlockPool pool(2, [&](int32_t block) { reused.push_back(block); });
  std::vector<int32_t> blocks;
  ASSERT_TRUE(pool.Allocate(2, &blocks));
  EXPECT_TRUE(reused.empty());
  pool.Release(blocks[1]);
  std::vector<int32_t> again;
  ASSERT_TRUE(pool.Allocate(1, &again));
  EXPECT_EQ(reused, std::vector<int32_t>{blocks[1]});
}

TEST(BlockPoolDeathTest, ReleasingAFreeBlockIsABug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  BlockPool pool(2);
  EXPECT_DEATH(pool.Release(0), "check failed");
  EXPECT_DEATH(pool.AddReference(2), "check failed");
}

TEST(BlockPool, KeepsItsCountsOverRandomUse) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    BlockPool pool(17);
    std::vector<int32_t> held;  // one entry a reference
    for (int n = 0; n < 2000; ++n) {
      const uint32_t action = random() % 3;
      if (action == 0) {
        const int32_t count = static_cast<int32_t>(random() % 5);
        const bool fits = count <= pool.free();
        EXPECT_EQ(pool.Allocate(count, &held), fits);
      } else if (!held.empty()) {
        const size_t pick = random() % held.size();
        if (action == 1) {
          pool.AddReference(held[pick]);
          held.push_back(held[pick]);
        } else {
          pool.Release(held[pick]);
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(pick));
        }
      }
      const std::set<int32_t> distinct(held.begin(), held.end());
      ASSERT_EQ(pool.used(), static_cast<int32_t>(distinct.size()));
    }
    pool.CheckInvariants();
  }
}

}  // namespace
}  // namespace monet
