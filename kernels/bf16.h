// bfloat16 is the upper half of a float: widening is exact.
#pragma once

#include <bit>
#include <cstdint>

namespace monet::kernels {

inline float WidenBf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace monet::kernels
