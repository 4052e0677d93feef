// A token's active experts: the pairs (i, j) that at least one routing head keeps on both sides,
// with W_ij = Σ_h g1_hi · g2_hj, and the choice of the heaviest of them.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/policy/expert_mask.h"
#include "runtime/policy/routing_rows.h"

namespace monet {

// Which of a token's active experts are wanted.
struct RoutingSelection {
  int32_t top_n = 0;      // most experts of a token and router, at least 1
  double min_weight = 0;  // none of less weight; at least 0
};

// One active expert of one router group.
struct ActiveExpert {
  uint16_t i = 0;
  uint16_t j = 0;
  float weight = 0;      // before the mask; may exceed 1
  bool removed = false;  // by the mask

  bool operator==(const ActiveExpert&) const = default;
};

// The active experts of one token in one router group.
struct TokenActivation {
  int32_t position = 0;
  int32_t router = 0;
  // By falling weight; of equal ones the lower i, then the lower j first. Removed ones are chosen
  // like the others.
  std::vector<ActiveExpert> experts;
  int32_t active_experts = 0;  // all, those not chosen included
  float removed_weight = 0;    // of all active experts that the mask removes

  bool operator==(const TokenActivation&) const = default;
};

// Turns routing into activations. Its time is proportional to Σ_h of the kept indices' products,
// its memory to E and top_n: never to E². Weights are summed in double, by ascending head. Holds
// working memory; not thread-safe.
class RoutingPairs {
 public:
  // All but the position. REQUIRES: indices below mask.shape().experts, router below its routers.
  TokenActivation Select(const RowRouting& routing, int32_t router, const ExpertMask& mask,
                         const RoutingSelection& selection);

 private:
  // One head's kept indices.
  struct Head {
    std::span<const uint16_t> index[2];
    std::span<const float> gate[2];
    size_t next = 0;  // of side 0: first that is not done
  };

  void SplitHeads(const RowRouting& routing);
  // The lowest index of side 0 that is not done; -1 at the end.
  int32_t NextRow() const;
  // weights_ of all pairs (i, ·), which columns_ then names.
  void SumRow(int32_t i);
  void Offer(const ActiveExpert& expert, const RoutingSelection& selection,
             std::vector<ActiveExpert>* chosen);

  std::vector<Head> heads_;
  std::vector<double> weights_;    // (E)
  std::vector<uint8_t> active_;    // (E) whether columns_ has it
  std::vector<uint16_t> columns_;  // the active j of the current i
};

}  // namespace monet
