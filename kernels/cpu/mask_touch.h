// Which indices of a row's active experts a mask touches: the rest can share their inner sums.
#pragma once

#include <cstdint>

namespace monet::kernels {

// Words of scratch that FindTouched needs for E experts a side.
constexpr int64_t TouchWords(int64_t experts) { return 2 * ((experts + 63) / 64); }

// For active i of side 0, touched1[i] = 1 iff some active (i, j) is removed, else 0; touched2[j]
// likewise. Entries of inactive indices of touched1 are left as they are. True if any is touched.
bool FindTouched(const uint8_t* bitmap,                           // (⌈E²/8⌉)
                 int64_t experts,                                 // E
                 const uint16_t* active1, int32_t active_count1,  // side 0
                 const uint16_t* active2, int32_t active_count2,  // side 1
                 uint64_t* scratch,                               // (TouchWords(E))
                 uint8_t* touched1, uint8_t* touched2);           // (E) each

}  // namespace monet::kernels
