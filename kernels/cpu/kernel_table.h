// One entry a piece of work, filled once per instruction set. All tables compute the same bits.
// Each function runs on one thread and writes only what its range or index names.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace monet::kernels {

// Rows of a step that have an expert among their active ones, by expert: rows
// list[offset[e] .. offset[e + 1]) in ascending order.
struct RowsByExpert {
  const int32_t* offset = nullptr;  // (E + 1)
  const int32_t* list = nullptr;    // (offset[E])
};

// What the phases of the expert layer hand on. Only entries of active experts are defined.
struct ExpertWork {
  RowsByExpert rows[2];
  // Activations of side s, then a one (so that the same sums give r and c), then zeros up to
  // act_stride, a multiple of 16.
  float* act = nullptr;  // (T, sides, E, act_stride)
  int64_t act_stride = 0;
  int32_t act_sides = 0;  // 2 vertical, 1 horizontal
  float* coef = nullptr;  // (T, 2, E, M + 1) factors of a down block's rows
  float* sums = nullptr;  // (T, D)
};

// Which active indices of a row a mask touches at all; null members: no mask.
struct MaskTouch {
  const uint8_t* bitmap = nullptr;  // (⌈E²/8⌉)
  const uint8_t* side[2] = {};  // (E) nonzero: some pair of this index with an active one is out
};

struct KernelTable {
  void (*exp)(const float* x, int64_t count, float* out);
  void (*embed)(const EmbedArgs& args, int64_t begin, int64_t end);
  void (*rms_norm)(const RmsNormArgs& args, int64_t begin, int64_t end);
  // Output columns [begin, end) of all rows.
  void (*mat_mul)(const MatMulArgs& args, int64_t begin, int64_t end);
  void (*rope_store)(const RopeStoreArgs& args, int64_t begin, int64_t end);
  // scores: (max_context) scratch.
  void (*attention)(const AttentionArgs& args, int64_t row, int64_t head, float* scores);
  // One row and side; z: (H, E); seen: (E) scratch.
  void (*route)(const RouteArgs& args, const float* z, int64_t row, int64_t side, uint8_t* seen);
  // Activations of one expert for its rows.
  void (*expert_up)(const ExpertArgs& args, const ExpertWork& work, int64_t side, int64_t expert);
  // Coefficients of one row; scratch: (E, act_stride).
  void (*expert_mix)(const ExpertArgs& args, const ExpertWork& work, const MaskTouch& touch,
                     int64_t row, float* scratch);
  // Output columns [begin, end) of the side's half for all rows, residual included.
  void (*expert_down)(const ExpertArgs& args, const ExpertWork& work, int64_t side, int64_t begin,
                      int64_t end);
};

const KernelTable& GenericKernels();
#if defined(__x86_64__)
const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();
#endif

}  // namespace monet::kernels
