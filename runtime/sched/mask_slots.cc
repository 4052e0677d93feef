#include "runtime/sched/mask_slots.h"

#include "runtime/base/check.h"

namespace monet {

MaskSlots::MaskSlots(int32_t slots) : slots_(slots) {}

int32_t MaskSlots::Find(const Digest& mask) const {
  for (int32_t slot = 0; slot < slots(); ++slot) {
    if (slots_[slot].mask == mask) return slot;
  }
  return -1;
}

int32_t MaskSlots::FindFree() const {
  int32_t best = -1;
  for (int32_t slot = 0; slot < slots(); ++slot) {
    if (slots_[slot].references > 0) continue;
    if (best < 0 || slots_[slot].released < slots_[best].released) best = slot;
  }
  return best;
}

bool MaskSlots::CanAcquire(const Digest& mask) const { return Find(mask) >= 0 || FindFree() >= 0; }

MaskSlots::Grant MaskSlots::Acquire(const Digest& mask) {
  Grant grant;
  grant.slot = Find(mask);
  if (grant.slot < 0) {
    grant.slot = FindFree();
    grant.fill = true;
    MONET_CHECK(grant.slot >= 0);
    slots_[grant.slot].mask = mask;
  }
  if (slots_[grant.slot].references++ == 0) ++used_;
  return grant;
}

void MaskSlots::Release(int32_t slot) {
  MONET_CHECK(slot >= 0 && slot < slots() && slots_[slot].references > 0);
  if (--slots_[slot].references > 0) return;
  --used_;
  slots_[slot].released = ++releases_;
}

void MaskSlots::CheckInvariants() const {
  int32_t used = 0;
  for (int32_t slot = 0; slot < slots(); ++slot) {
    MONET_CHECK(slots_[slot].references >= 0);
    if (slots_[slot].references > 0) {
      ++used;
      MONET_CHECK(slots_[slot].mask.has_value());
    }
    if (slots_[slot].mask) MONET_CHECK(Find(*slots_[slot].mask) == slot);
  }
  MONET_CHECK(used == used_);
}

}  // namespace monet
