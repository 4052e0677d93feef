// The operations of the reference backend as free functions: loops in double, results rounded to
// float once. They allocate and use one thread. Operands as in kernels/backend.h.
#pragma once

#include "kernels/backend.h"
#include "kernels/bf16.h"

namespace monet::kernels::reference {

// Element `index` of stored weights.
inline double WeightAt(const void* data, DType dtype, int64_t index) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[index];
  return WidenBf16(static_cast<const uint16_t*>(data)[index]);
}

// Whether the mask of row t removes expert (i, j) of `router`.
bool Removed(const MaskTable& masks, int32_t router, int32_t t, int64_t i, int64_t j,
             int32_t experts);

void Embed(const EmbedArgs& args);
void RmsNorm(const RmsNormArgs& args);
void MatMul(const MatMulArgs& args);
void RopeStore(const RopeStoreArgs& args);
void Attention(const AttentionArgs& args);
void Route(const RouteArgs& args);
void RemovedWeight(const RemovedWeightArgs& args);
void Experts(const ExpertArgs& args);

}  // namespace monet::kernels::reference
