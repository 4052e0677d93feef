#include "runtime/policy/expert_mask.h"

#include <bit>
#include <string_view>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/limits.h"

namespace monet {
namespace {

// Of the last byte of a router's part: the bits that are no expert.
uint8_t PaddingBits(const MaskShape& shape) {
  const size_t used = static_cast<size_t>(shape.experts) * shape.experts % 8;
  return used == 0 ? 0 : static_cast<uint8_t>(0xFF << used);
}

int64_t CountBits(std::span<const uint8_t> bytes) {
  int64_t count = 0;
  for (uint8_t byte : bytes) count += std::popcount(byte);
  return count;
}

Digest MaskDigest(const MaskShape& shape, std::span<const uint8_t> bitmap) {
  constexpr std::string_view kTag("monet-mask-1\0", 13);
  return Hasher()
      .Update(kTag)
      .UpdateU32(static_cast<uint32_t>(shape.routers))
      .UpdateU32(static_cast<uint32_t>(shape.experts))
      .Update(bitmap)
      .Finish();
}

}  // namespace

bool MaskShape::IsValid() const {
  return routers >= 1 && routers <= limits::kMaxLayers && experts >= 1 &&
         experts <= limits::kMaxExpertsPerSide && Bytes() <= limits::kMaxMaskBytes;
}

ExpertMask::ExpertMask(MaskShape shape, std::vector<uint8_t> bitmap)
    : shape_(shape),
      bitmap_(std::move(bitmap)),
      digest_(MaskDigest(shape_, bitmap_)),
      removed_(CountBits(bitmap_)) {}

absl::StatusOr<std::shared_ptr<const ExpertMask>> ExpertMask::FromBitmap(
    MaskShape shape, std::vector<uint8_t> bitmap) {
  MONET_CHECK(shape.IsValid());
  if (bitmap.size() != shape.Bytes()) {
    return InvalidArgument("the bitmap has {} bytes, not {}", bitmap.size(), shape.Bytes());
  }
  for (int32_t router = 0; router < shape.routers; ++router) {
    if (bitmap[(router + 1) * shape.BytesPerRouter() - 1] & PaddingBits(shape)) {
      return InvalidArgument("the bitmap of router {} has a padding bit set", router);
    }
  }
  return std::shared_ptr<const ExpertMask>(new ExpertMask(shape, std::move(bitmap)));
}

std::shared_ptr<const ExpertMask> ExpertMask::None(MaskShape shape) {
  MONET_CHECK(shape.IsValid());
  return std::shared_ptr<const ExpertMask>(
      new ExpertMask(shape, std::vector<uint8_t>(shape.Bytes(), 0)));
}

int64_t ExpertMask::RemovedIn(int32_t router) const {
  MONET_CHECK(router >= 0 && router < shape_.routers);
  return CountBits(bitmap().subspan(router * shape_.BytesPerRouter(), shape_.BytesPerRouter()));
}

bool ExpertMask::Removes(int32_t router, int32_t i, int32_t j) const {
  MONET_CHECK(router >= 0 && router < shape_.routers && i >= 0 && i < shape_.experts && j >= 0 &&
              j < shape_.experts);
  const size_t expert = static_cast<size_t>(i) * shape_.experts + j;
  return bitmap_[router * shape_.BytesPerRouter() + expert / 8] >> (expert % 8) & 1;
}

MaskBuilder::MaskBuilder(MaskShape shape) : shape_(shape) {
  MONET_CHECK(shape.IsValid());
  bitmap_.resize(shape.Bytes());
  rows_.resize(static_cast<size_t>(shape.routers) * shape.experts);
  columns_.resize(rows_.size());
}

void MaskBuilder::Add(const ExpertMask& mask) {
  MONET_CHECK(mask.shape() == shape_);
  for (size_t b = 0; b < bitmap_.size(); ++b) bitmap_[b] |= mask.bitmap()[b];
}

absl::Status MaskBuilder::CheckRouter(int32_t router) const {
  if (router >= 0 && router < shape_.routers) return absl::OkStatus();
  return InvalidArgument("router {} is outside 0 to {}", router, shape_.routers - 1);
}

void MaskBuilder::Remove(int32_t router, size_t expert) {
  bitmap_[router * shape_.BytesPerRouter() + expert / 8] |= static_cast<uint8_t>(1 << expert % 8);
}

absl::Status MaskBuilder::AddExpert(int32_t router, int64_t expert) {
  MONET_RETURN_IF_ERROR(CheckRouter(router));
  const int64_t count = int64_t{shape_.experts} * shape_.experts;
  if (expert < 0 || expert >= count) {
    return InvalidArgument("expert {} is outside 0 to {}", expert, count - 1);
  }
  Remove(router, static_cast<size_t>(expert));
  return absl::OkStatus();
}

absl::Status MaskBuilder::AddRow(int32_t router, int64_t i) {
  MONET_RETURN_IF_ERROR(CheckRouter(router));
  if (i < 0 || i >= shape_.experts) {
    return InvalidArgument("row {} is outside 0 to {}", i, shape_.experts - 1);
  }
  auto added = rows_[static_cast<size_t>(router) * shape_.experts + i];
  if (!added) {
    for (int64_t j = 0; j < shape_.experts; ++j) Remove(router, i * shape_.experts + j);
  }
  added = true;
  return absl::OkStatus();
}

absl::Status MaskBuilder::AddColumn(int32_t router, int64_t j) {
  MONET_RETURN_IF_ERROR(CheckRouter(router));
  if (j < 0 || j >= shape_.experts) {
    return InvalidArgument("column {} is outside 0 to {}", j, shape_.experts - 1);
  }
  auto added = columns_[static_cast<size_t>(router) * shape_.experts + j];
  if (!added) {
    for (int64_t i = 0; i < shape_.experts; ++i) Remove(router, i * shape_.experts + j);
  }
  added = true;
  return absl::OkStatus();
}

absl::Status MaskBuilder::AddBitmap(int32_t router, std::span<const uint8_t> bitmap) {
  MONET_RETURN_IF_ERROR(CheckRouter(router));
  if (bitmap.size() != shape_.BytesPerRouter()) {
    return InvalidArgument("the bitmap has {} bytes, not {}", bitmap.size(),
                           shape_.BytesPerRouter());
  }
  if (bitmap.back() & PaddingBits(shape_)) {
    return InvalidArgument("the bitmap of router {} has a padding bit set", router);
  }
  uint8_t* part = bitmap_.data() + router * shape_.BytesPerRouter();
  for (size_t b = 0; b < bitmap.size(); ++b) part[b] |= bitmap[b];
  return absl::OkStatus();
}

std::shared_ptr<const ExpertMask> MaskBuilder::Build() && {
  auto mask = ExpertMask::FromBitmap(shape_, std::move(bitmap_));
  MONET_CHECK(mask.ok());
  return *std::move(mask);
}

}  // namespace monet
