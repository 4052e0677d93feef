#include "kernels/cpu/mask_touch.h"

#include <cstring>

namespace monet::kernels {
namespace {

// Bits [at, at + 64) of the bitmap, bit `at` lowest; zeros beyond its last byte.
uint64_t BitsAt(const uint8_t* bitmap, int64_t bytes, int64_t at) {
  const int64_t first = at / 8;
  const int shift = static_cast<int>(at % 8);
  uint64_t low = 0;
  if (first + 8 < bytes) {
    std::memcpy(&low, bitmap + first, sizeof(low));
    return shift == 0 ? low : low >> shift | uint64_t{bitmap[first + 8]} << (64 - shift);
  }
  for (int64_t b = first; b < bytes && b < first + 9; ++b) {
    const int place = static_cast<int>(8 * (b - first)) - shift;
    low |= place < 0 ? uint64_t{bitmap[b]} >> -place : uint64_t{bitmap[b]} << place;
  }
  return low;
}

}  // namespace

bool FindTouched(const uint8_t* bitmap, int64_t experts, const uint16_t* active1,
                 int32_t active_count1, const uint16_t* active2, int32_t active_count2,
                 uint64_t* scratch, uint8_t* touched1, uint8_t* touched2) {
  const int64_t words = (experts + 63) / 64;
  const int64_t bytes = (experts * experts + 7) / 8;
  uint64_t* active = scratch;           // set of active j
  uint64_t* removed = scratch + words;  // those of them that some active i has removed
  std::memset(scratch, 0, static_cast<size_t>(2 * words) * sizeof(uint64_t));
  for (int32_t n = 0; n < active_count2; ++n) {
    active[active2[n] / 64] |= uint64_t{1} << (active2[n] % 64);
  }
  bool any = false;
  for (int32_t n = 0; n < active_count1; ++n) {
    const int64_t row = active1[n] * experts;
    uint64_t hit = 0;
    for (int64_t w = 0; w < words; ++w) {
      const uint64_t out = BitsAt(bitmap, bytes, row + 64 * w) & active[w];
      removed[w] |= out;
      hit |= out;
    }
    touched1[active1[n]] = hit != 0;
    any |= hit != 0;
  }
  for (int32_t n = 0; n < active_count2; ++n) {
    const int64_t j = active2[n];
    touched2[j] = (removed[j / 64] >> (j % 64)) & 1;
  }
  return any;
}

}  // namespace monet::kernels
