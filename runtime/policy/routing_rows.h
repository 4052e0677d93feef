// What the routers decided for some rows of a step, on the host and in compact form: the lists of
// kept indices and gates without the gaps of kernels::Routing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace monet {

// What one router decided for one row. Views of a RoutingRows.
struct RowRouting {
  std::span<const int32_t> count;   // (2, H) kept indices of a side and head, each at least 1
  std::span<const uint16_t> index;  // the lists one after another, side 0 first; each ascending
  std::span<const float> gate;      // beside index
};

// Filled router by router, since the routers run one after the other. Keeps its memory from step to
// step, at most rows · R · 2·H·E of 6 bytes. Not thread-safe.
class RoutingRows {
 public:
  // Forgets what is there. `rows` are to be added for each router in turn.
  void Begin(int32_t rows, int32_t heads);
  // The next row of the current router; after the last row the next router begins. `index` and
  // `gate` are (2, H, stride), of which the first `count` entries of each list are defined.
  void Add(std::span<const int32_t> count, std::span<const uint16_t> index,
           std::span<const float> gate, size_t stride);

  int32_t rows() const { return rows_; }
  // R, once all rows of all routers were added.
  int32_t routers() const;
  // Valid until the next Begin or Add. REQUIRES: row in [0, rows()), router in [0, routers()).
  RowRouting At(int32_t row, int32_t router) const;

 private:
  int32_t rows_ = 0;
  int32_t heads_ = 0;
  std::vector<int32_t> counts_;  // (R, rows, 2, H)
  std::vector<size_t> begins_;   // (R, rows) first entry of a row's lists, and the end of the last
  std::vector<uint16_t> indices_;
  std::vector<float> gates_;
};

}  // namespace monet
