// Packs the second half of the experts so that one expert is one contiguous stream of memory: the
// layout of kernels::ExpertDown. Pure functions on host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace monet {

// What one side's blocks are made of, all in host memory, row-major as in the checkpoint.
struct ExpertDownParts {
  // Each (N, E·units), outputs by inner units: v11 and v12, v21 and v22 (vertical, units = M/2), or
  // v alone (horizontal, units = M).
  std::vector<kernels::Matrix> down;
  kernels::Matrix bias;  // (E, N)
  int32_t units = 0;     // inner units an expert has in each part
};

// BF16 when every part is; otherwise F32, to which widening is exact.
kernels::DType PackedDType(const ExpertDownParts& parts);

// Elements of the packed blocks: E · (M + 1) · N.
size_t PackedElements(const ExpertDownParts& parts);

// Block e of `out` (E, M + 1, N): for part p and unit q row p·units + q holds column e·units + q of
// that part, the last row holds the bias of expert e. `out` has PackedElements() elements of
// PackedDType().
void PackExpertDown(const ExpertDownParts& parts, void* out);

}  // namespace monet
