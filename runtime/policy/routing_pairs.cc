#include "runtime/policy/routing_pairs.h"

#include <algorithm>
#include <tuple>

#include "runtime/base/check.h"

namespace monet {
namespace {

bool ComesFirst(const ActiveExpert& a, const ActiveExpert& b) {
  return std::tuple(-a.weight, a.i, a.j) < std::tuple(-b.weight, b.i, b.j);
}

}  // namespace

void RoutingPairs::SplitHeads(const RowRouting& routing) {
  heads_.assign(routing.count.size() / 2, Head());
  size_t begin = 0;
  for (size_t list = 0; list < routing.count.size(); ++list) {
    const size_t side = list / heads_.size();
    const auto count = static_cast<size_t>(routing.count[list]);
    Head& head = heads_[list % heads_.size()];
    head.index[side] = routing.index.subspan(begin, count);
    head.gate[side] = routing.gate.subspan(begin, count);
    begin += count;
  }
}

int32_t RoutingPairs::NextRow() const {
  int32_t row = -1;
  for (const Head& head : heads_) {
    if (head.next == head.index[0].size()) continue;
    const int32_t i = head.index[0][head.next];
    if (row < 0 || i < row) row = i;
  }
  return row;
}

void RoutingPairs::SumRow(int32_t i) {
  columns_.clear();
  for (Head& head : heads_) {
    if (head.next == head.index[0].size() || head.index[0][head.next] != i) continue;
    const double gate = head.gate[0][head.next++];
    for (size_t n = 0; n < head.index[1].size(); ++n) {
      const uint16_t j = head.index[1][n];
      if (active_[j] == 0) {
        active_[j] = 1;
        weights_[j] = 0;
        columns_.push_back(j);
      }
      weights_[j] += gate * head.gate[1][n];
    }
  }
  for (uint16_t j : columns_) active_[j] = 0;
}

// `chosen` is a heap with the one that comes last on top.
void RoutingPairs::Offer(const ActiveExpert& expert, const RoutingSelection& selection,
                         std::vector<ActiveExpert>* chosen) {
  if (expert.weight < selection.min_weight) return;
  const bool full = chosen->size() == static_cast<size_t>(selection.top_n);
  if (full) {
    if (!ComesFirst(expert, chosen->front())) return;
    std::pop_heap(chosen->begin(), chosen->end(), ComesFirst);
    chosen->back() = expert;
  } else {
    chosen->push_back(expert);
  }
  std::push_heap(chosen->begin(), chosen->end(), ComesFirst);
}

TokenActivation RoutingPairs::Select(const RowRouting& routing, int32_t router,
                                     const ExpertMask& mask, const RoutingSelection& selection) {
  MONET_CHECK(selection.top_n >= 1);
  const size_t side = mask.shape().experts;
  weights_.resize(side);
  active_.resize(side, 0);
  SplitHeads(routing);
  TokenActivation result{.router = router};
  double removed_weight = 0;
  for (int32_t i = NextRow(); i >= 0; i = NextRow()) {
    SumRow(i);
    result.active_experts += static_cast<int32_t>(columns_.size());
    for (uint16_t j : columns_) {
      const ActiveExpert expert{.i = static_cast<uint16_t>(i),
                                .j = j,
                                .weight = static_cast<float>(weights_[j]),
                                .removed = !mask.empty() && mask.Removes(router, i, j)};
      if (expert.removed) removed_weight += weights_[j];
      Offer(expert, selection, &result.experts);
    }
  }
  std::sort_heap(result.experts.begin(), result.experts.end(), ComesFirst);
  result.removed_weight = static_cast<float>(removed_weight);
  return result;
}

}  // namespace monet
