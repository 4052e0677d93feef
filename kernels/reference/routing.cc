// The router (Monet paper, section 3.2) and the share of routing weight that a mask removes.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_ops.h"

namespace monet::kernels::reference {
namespace {

// Keeps z_i >= min(max z, threshold) of one head; gates are the softmax over the kept z.
// Returns how many are kept.
int32_t Keep(const std::vector<double>& z, double threshold, uint16_t* index, float* gate) {
  const double largest = *std::max_element(z.begin(), z.end());
  const double bound = std::min(largest, threshold);
  int32_t count = 0;
  double total = 0;
  for (size_t i = 0; i < z.size(); ++i) {
    if (z[i] >= bound) {
      index[count++] = static_cast<uint16_t>(i);
      total += std::exp(z[i] - largest);
    }
  }
  for (int32_t n = 0; n < count; ++n) {
    gate[n] = static_cast<float>(std::exp(z[index[n]] - largest) / total);
  }
  return count;
}

void RouteSide(const RouteArgs& args, int64_t t, int64_t side) {
  const Matrix& w = side == 0 ? args.w1 : args.w2;
  const float* threshold = side == 0 ? args.threshold1 : args.threshold2;
  const int64_t experts = args.experts;
  const int64_t heads = args.routing_heads;
  const float* x = args.x + t * w.cols;
  std::vector<double> z(experts);
  std::vector<bool> active(experts, false);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t e = 0; e < experts; ++e) {
      z[e] = 0;
      for (int64_t d = 0; d < w.cols; ++d) {
        z[e] += x[d] * WeightAt(w.data, w.dtype, (h * experts + e) * w.cols + d);
      }
    }
    const int64_t list = (t * 2 + side) * heads + h;
    uint16_t* index = args.out.index + list * experts;
    const int32_t count = Keep(z, threshold[h], index, args.out.gate + list * experts);
    args.out.count[list] = count;
    for (int32_t n = 0; n < count; ++n) active[index[n]] = true;
  }
  int32_t active_count = 0;
  uint16_t* out = args.out.active + (t * 2 + side) * experts;
  for (int64_t e = 0; e < experts; ++e) {
    if (active[e]) out[active_count++] = static_cast<uint16_t>(e);
  }
  args.out.active_count[t * 2 + side] = active_count;
}

}  // namespace

bool Removed(const MaskTable& masks, int32_t router, int32_t t, int64_t i, int64_t j,
             int32_t experts) {
  const int64_t slot = masks.slot == nullptr ? -1 : masks.slot[t];
  if (slot < 0) return false;
  const uint8_t* bitmap = masks.bitmaps + (slot * masks.routers + router) * masks.bytes;
  const int64_t expert = i * experts + j;
  return (bitmap[expert / 8] >> (expert % 8)) & 1;
}

void Route(const RouteArgs& args) {
  for (int32_t t = 0; t < args.tokens; ++t) {
    RouteSide(args, t, 0);
    RouteSide(args, t, 1);
  }
}

void RemovedWeight(const RemovedWeightArgs& args) {
  const Routing& routing = args.routing;
  const int64_t heads = args.routing_heads;
  for (int32_t t = 0; t < args.tokens; ++t) {
    double sum = 0;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t list1 = t * 2 * heads + h;
      const int64_t list2 = list1 + heads;
      for (int32_t n1 = 0; n1 < routing.count[list1]; ++n1) {
        for (int32_t n2 = 0; n2 < routing.count[list2]; ++n2) {
          const int64_t at1 = list1 * args.experts + n1;
          const int64_t at2 = list2 * args.experts + n2;
          if (Removed(args.masks, args.router, t, routing.index[at1], routing.index[at2],
                      args.experts)) {
            sum += static_cast<double>(routing.gate[at1]) * routing.gate[at2];
          }
        }
      }
    }
    args.removed[t] = static_cast<float>(args.removed[t] + sum);
  }
}

}  // namespace monet::kernels::reference
