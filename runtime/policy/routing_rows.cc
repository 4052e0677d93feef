#include "runtime/policy/routing_rows.h"

#include "runtime/base/check.h"

namespace monet {

void RoutingRows::Begin(int32_t rows, int32_t heads) {
  rows_ = rows;
  heads_ = heads;
  counts_.clear();
  begins_.assign(1, 0);
  indices_.clear();
  gates_.clear();
}

void RoutingRows::Add(std::span<const int32_t> count, std::span<const uint16_t> index,
                      std::span<const float> gate, size_t stride) {
  MONET_CHECK(count.size() == 2 * static_cast<size_t>(heads_));
  MONET_CHECK(index.size() == count.size() * stride && gate.size() == index.size());
  counts_.insert(counts_.end(), count.begin(), count.end());
  for (size_t list = 0; list < count.size(); ++list) {
    const auto kept = static_cast<size_t>(count[list]);
    MONET_CHECK(kept <= stride);
    const auto indices = index.subspan(list * stride, kept);
    const auto gates = gate.subspan(list * stride, kept);
    indices_.insert(indices_.end(), indices.begin(), indices.end());
    gates_.insert(gates_.end(), gates.begin(), gates.end());
  }
  begins_.push_back(indices_.size());
}

int32_t RoutingRows::routers() const {
  return rows_ == 0 ? 0 : static_cast<int32_t>(begins_.size() - 1) / rows_;
}

RowRouting RoutingRows::At(int32_t row, int32_t router) const {
  MONET_CHECK(row >= 0 && row < rows_ && router >= 0 && router < routers());
  const size_t at = static_cast<size_t>(router) * rows_ + row;
  const size_t lists = 2 * static_cast<size_t>(heads_);
  const size_t size = begins_[at + 1] - begins_[at];
  return {.count = std::span(counts_).subspan(at * lists, lists),
          .index = std::span(indices_).subspan(begins_[at], size),
          .gate = std::span(gates_).subspan(begins_[at], size)};
}

}  // namespace monet
