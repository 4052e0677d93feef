// Philox 4x32-10, the counter-based random number generator of Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3" (SC 2011): a keyed bijection of 128-bit counters, no state.
#pragma once

#include <array>
#include <cstdint>

namespace monet {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

}  // namespace monet
