// Random expert layers, routings and masks, and their form on a backend.
#pragma once

#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/reference/expert_oracle.h"
#include "tests/kernels/op_case.h"

namespace monet::kernels::testing {

// Kept indices and gates of T tokens, as lists.
struct RoutingData {
  int32_t tokens = 0;
  int32_t heads = 0;                         // H
  int32_t experts = 0;                       // E
  std::vector<std::vector<uint16_t>> index;  // (T, 2, H) lists
  std::vector<std::vector<float>> gate;      // (T, 2, H) lists

  size_t ListAt(int64_t t, int64_t side, int64_t h) const { return (t * 2 + side) * heads + h; }
  // Union of the heads' indices, ascending.
  std::vector<uint16_t> Active(int64_t t, int64_t side) const;
  // (H, E) with zeros.
  std::vector<double> Dense(int64_t t, int64_t side) const;
};

// Lists of 1..most_kept random indices, gates that sum to one.
RoutingData RandomRouting(Rng& rng, int32_t tokens, int32_t heads, int32_t experts,
                          int32_t most_kept);
// The chosen rows; entries beyond a list's count are 0xFFFF and NaN.
Routing PutRouting(Device& device, const RoutingData& routing, const Rows& rows);

enum class MaskKind { kNone, kEmpty, kRandom30, kRows, kAll, kMixed };
const char* NameOf(MaskKind kind);

// Two routers, the second one under test; the first one's bitmaps are the opposite.
struct MaskData {
  static constexpr int32_t kRouters = 2;
  static constexpr int32_t kRouter = 1;
  int32_t experts = 0;
  std::vector<std::vector<bool>> removed;  // (slots)(E²) of the router under test
  std::vector<int32_t> slot;               // (T)

  // Of one row: (E²).
  std::vector<bool> RemovedOf(int64_t t) const;
};
// kMixed: rows with different masks and with none.
MaskData MakeMask(Rng& rng, MaskKind kind, int32_t tokens, int32_t experts);
MaskTable PutMask(Device& device, const MaskData& masks, const Rows& rows);

struct ExpertShape {
  Decompose decompose = Decompose::kVertical;
  int32_t tokens = 1;
  int32_t hidden = 8;   // D
  int32_t heads = 1;    // H
  int32_t experts = 4;  // E
  int32_t moe_dim = 2;  // M
  int32_t most_kept = 2;
  DType dtype = DType::kF32;
  MaskKind mask = MaskKind::kNone;
  bool in_place = false;
};
std::string ToString(const ExpertShape& shape);

PublishedExperts RandomExperts(Rng& rng, const ExpertShape& shape);
// The weights in the packed layout. Rows and blocks of experts that are not in `active` (E of side
// 0, then of side 1) are NaN: they must not be read.
ExpertWeights PutExperts(Device& device, const PublishedExperts& experts, DType dtype,
                         const std::vector<bool>& active);

// A layer with its operands.
struct ExpertLayer {
  explicit ExpertLayer(const ExpertShape& shape);

  // out of the chosen rows.
  OpOutput Run(Backend& backend, const Rows& rows) const;
  Limits NeededLimits() const;

  ExpertShape shape;
  PublishedExperts weights;
  RoutingData routing;
  MaskData masks;
  std::vector<float> x;         // (T, D)
  std::vector<float> residual;  // (T, D)
};

// Everything replaced by its absolute value and nothing removed: bounds each sum's terms.
ExpertLayer Magnitudes(const ExpertLayer& layer);
// Roundings on the longest path to an output, in units of kEps of the magnitudes' result.
double ExpertRoundings(const ExpertLayer& layer);

}  // namespace monet::kernels::testing
