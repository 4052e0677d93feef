#include "runtime/sched/mask_slots.h"

#include <gtest/gtest.h>

namespace monet {
namespace {

Digest Mask(uint8_t n) {
  Digest digest;
  digest.bytes[31] = n;
  return digest;
}

TEST(MaskSlots, EqualMasksShareASlot) {
  MaskSlots slots(2);
  const auto first = slots.Acquire(Mask(1));
  const auto second = slots.Acquire(Mask(1));
  EXPECT_TRUE(first.fill);
  EXPECT_FALSE(second.fill);
  EXPECT_EQ(first.slot, second.slot);
  EXPECT_EQ(slots.used(), 1);
  slots.Release(first.slot);
  EXPECT_EQ(slots.used(), 1);
  slots.Release(first.slot);
  EXPECT_EQ(slots.used(), 0);
  slots.CheckInvariants();
}

TEST(MaskSlots, RefusesADistinctMaskWhenAllAreTaken) {
  MaskSlots slots(2);
  slots.Acquire(Mask(1));
  const auto two = slots.Acquire(Mask(2));
  EXPECT_FALSE(slots.CanAcquire(Mask(3)));
  EXPECT_TRUE(slots.CanAcquire(Mask(2)));
  slots.Release(two.slot);
  EXPECT_TRUE(slots.CanAcquire(Mask(3)));
  const auto three = slots.Acquire(Mask(3));
  EXPECT_EQ(three.slot, two.slot);
  EXPECT_TRUE(three.fill);
}

TEST(MaskSlots, AReleasedMaskStaysUntilItsSlotIsNeeded) {
  MaskSlots slots(2);
  const auto one = slots.Acquire(Mask(1));
  const auto two = slots.Acquire(Mask(2));
  slots.Release(one.slot);
  slots.Release(two.slot);
  EXPECT_FALSE(slots.Acquire(Mask(2)).fill);
  // The slot released longest ago goes first; the mask in it is gone then.
  EXPECT_EQ(slots.Acquire(Mask(3)).slot, one.slot);
  EXPECT_FALSE(slots.CanAcquire(Mask(1)));
  slots.CheckInvariants();
}

TEST(MaskSlots, NoSlotsTakeNoMask) { EXPECT_FALSE(MaskSlots(0).CanAcquire(Mask(1))); }

}  // namespace
}  // namespace monet
