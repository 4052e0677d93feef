// The table of masks of a model as a counted resource: sequences whose masks have the same digest
// share one slot.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/base/digest.h"

namespace monet {

// Not thread-safe. Invariant: no two slots hold the same digest.
class MaskSlots {
 public:
  struct Grant {
    int32_t slot = 0;
    bool fill = false;  // the slot does not hold the mask yet
  };

  explicit MaskSlots(int32_t slots);

  int32_t slots() const { return static_cast<int32_t>(slots_.size()); }
  int32_t used() const { return used_; }
  int32_t references(int32_t slot) const { return slots_[slot].references; }

  bool CanAcquire(const Digest& mask) const;
  // One reference. A slot keeps its mask after its last reference, so a mask that comes back soon
  // needs no fill. REQUIRES: CanAcquire.
  Grant Acquire(const Digest& mask);
  // REQUIRES: the slot is referenced.
  void Release(int32_t slot);

  void CheckInvariants() const;

 private:
  struct Slot {
    std::optional<Digest> mask;
    int32_t references = 0;
    uint64_t released = 0;  // when the last reference went; 0: never used
  };

  int32_t Find(const Digest& mask) const;  // -1: nowhere
  int32_t FindFree() const;                // least recently released; -1: none

  std::vector<Slot> slots_;
  int32_t used_ = 0;  // slots with references
  uint64_t releases_ = 0;
};

}  // namespace monet
