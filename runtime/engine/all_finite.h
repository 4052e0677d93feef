// What a model gives may not be a number; whoever takes it looks first.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

namespace monet {

inline bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return std::isfinite(value); });
}

}  // namespace monet
