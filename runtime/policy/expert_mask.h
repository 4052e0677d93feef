// Which experts are removed, for every router group of a model. Immutable once built.
//
// Layout of the bitmap (also of policy files): R · ⌈E²/8⌉ bytes, router 0 first; bit k of byte b of
// a router's part is expert 8b + k = i·E + j; 1 = removed; padding bits are 0.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"

namespace monet {

// R and E of a model, all that a mask needs to know of it.
struct MaskShape {
  int32_t routers = 0;  // R
  int32_t experts = 0;  // E

  size_t BytesPerRouter() const { return (static_cast<size_t>(experts) * experts + 7) / 8; }
  size_t Bytes() const { return routers * BytesPerRouter(); }
  // Experts in all router groups.
  int64_t Experts() const { return int64_t{routers} * experts * experts; }
  // Within limits.h, so that a bitmap may be allocated.
  bool IsValid() const;
  bool operator==(const MaskShape&) const = default;
};

class ExpertMask {
 public:
  // Errors: INVALID_ARGUMENT when the length is not shape.Bytes() or a padding bit is set.
  // REQUIRES (here and below): shape.IsValid().
  static absl::StatusOr<std::shared_ptr<const ExpertMask>> FromBitmap(MaskShape shape,
                                                                      std::vector<uint8_t> bitmap);
  // The mask that removes nothing.
  static std::shared_ptr<const ExpertMask> None(MaskShape shape);

  const MaskShape& shape() const { return shape_; }
  std::span<const uint8_t> bitmap() const { return bitmap_; }
  // SHA-256 over "monet-mask-1\0", R, E (u32, little-endian), bitmap. A mask that removes nothing
  // has the digest of no mask.
  const Digest& digest() const { return digest_; }
  // Experts removed, summed over router groups.
  int64_t removed() const { return removed_; }
  // Experts removed in one router group.
  int64_t RemovedIn(int32_t router) const;
  bool empty() const { return removed_ == 0; }
  bool Removes(int32_t router, int32_t i, int32_t j) const;

 private:
  ExpertMask(MaskShape shape, std::vector<uint8_t> bitmap);

  MaskShape shape_;
  std::vector<uint8_t> bitmap_;
  Digest digest_;
  int64_t removed_ = 0;
};

// Collects removals; removed is removed (union). Not thread-safe.
class MaskBuilder {
 public:
  explicit MaskBuilder(MaskShape shape);

  // REQUIRES: mask.shape() equals this shape.
  void Add(const ExpertMask& mask);
  // Errors name the field's limit: router in [0, R), indices in [0, E), expert ids in [0, E²).
  absl::Status AddExpert(int32_t router, int64_t expert);  // expert = i·E + j
  absl::Status AddRow(int32_t router, int64_t i);          // all experts (i, ·)
  absl::Status AddColumn(int32_t router, int64_t j);       // all experts (·, j)
  // One router's bitmap, ⌈E²/8⌉ bytes.
  absl::Status AddBitmap(int32_t router, std::span<const uint8_t> bitmap);

  std::shared_ptr<const ExpertMask> Build() &&;

 private:
  absl::Status CheckRouter(int32_t router) const;
  void Remove(int32_t router, size_t expert);

  MaskShape shape_;
  std::vector<uint8_t> bitmap_;
  // (R, E): rows and columns that were added, so that repeating one costs nothing.
  std::vector<bool> rows_;
  std::vector<bool> columns_;
};

}  // namespace monet
