#include "runtime/policy/expert_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "runtime/limits.h"
#include "tests/policy/policy_writer.h"

namespace monet {
namespace {

using ::testing::HasSubstr;

constexpr MaskShape kShape{2, 3};  // 9 experts, 2 bytes a router, 7 padding bits

std::vector<uint8_t> Bitmap(const ExpertMask& mask) {
  return {mask.bitmap().begin(), mask.bitmap().end()};
}

TEST(MaskShapeTest, KnowsItsSizes) {
  EXPECT_EQ((MaskShape{6, 512}).Bytes(), 6u * 32768);
  EXPECT_EQ((MaskShape{2, 3}).Bytes(), 4u);
  EXPECT_EQ((MaskShape{6, 512}).Experts(), 6 * 262144);
  EXPECT_TRUE((MaskShape{1, 1}).IsValid());
  for (const MaskShape shape :
       {MaskShape{0, 3}, MaskShape{3, 0}, MaskShape{-1, 3}, MaskShape{1, -3}, MaskShape{1, 4097},
        MaskShape{1025, 1}, MaskShape{33, 4096}}) {
    EXPECT_FALSE(shape.IsValid()) << shape.routers << " " << shape.experts;
  }
  EXPECT_TRUE((MaskShape{32, 4096}).IsValid());  // 64 MiB, the limit
}

TEST(ExpertMaskTest, BitOrderIsLeastSignificantFirst) {
  const auto mask = ExpertMask::FromBitmap(kShape, {0x02, 0x00, 0x80, 0x01});
  ASSERT_TRUE(mask.ok());
  EXPECT_TRUE((*mask)->Removes(0, 0, 1));
  EXPECT_FALSE((*mask)->Removes(0, 1, 0));
  EXPECT_TRUE((*mask)->Removes(1, 2, 1));  // expert 7
  EXPECT_TRUE((*mask)->Removes(1, 2, 2));  // expert 8
  EXPECT_EQ((*mask)->removed(), 3);
  EXPECT_EQ((*mask)->RemovedIn(0), 1);
  EXPECT_EQ((*mask)->RemovedIn(1), 2);
  EXPECT_FALSE((*mask)->empty());
}

TEST(ExpertMaskTest, DigestIsTheDocumentedOne) {
  // sha256 of b"monet-mask-1\0" + u32(2) + u32(3) + bitmap, by another implementation.
  EXPECT_EQ(ExpertMask::None(kShape)->digest().ToString(),
            "sha256:fe474a2609d9393b92b6ba755c96fb8aa967a6d4267f92c8098eb250613d9d5b");
  EXPECT_EQ((*ExpertMask::FromBitmap(kShape, {0x02, 0x00, 0x80, 0x01}))->digest().ToString(),
            "sha256:1839dd2460c275b89574f4f8f800296fc300992955cb87b4ad1657005ae5b8ad");
}

TEST(ExpertMaskTest, RemovingNothingHasTheDigestOfNone) {
  const auto mask = ExpertMask::FromBitmap(kShape, {0, 0, 0, 0});
  ASSERT_TRUE(mask.ok());
  EXPECT_TRUE((*mask)->empty());
  EXPECT_EQ((*mask)->digest(), ExpertMask::None(kShape)->digest());
  EXPECT_EQ(MaskBuilder(kShape).Build()->digest(), ExpertMask::None(kShape)->digest());
  // The digest covers the shape: no mask of another model is the same.
  EXPECT_NE(ExpertMask::None({2, 4})->digest(), ExpertMask::None({4, 2})->digest());
}

TEST(ExpertMaskTest, RefusesWrongLengthsAndPadding) {
  for (size_t bytes : {0, 3, 5, 8}) {
    const auto refused = ExpertMask::FromBitmap(kShape, std::vector<uint8_t>(bytes));
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(refused.status()), HasSubstr("not 4"));
  }
  for (int bit = 1; bit < 8; ++bit) {
    for (int router = 0; router < 2; ++router) {
      std::vector<uint8_t> bitmap(4);
      bitmap[2 * router + 1] = static_cast<uint8_t>(1 << bit);
      EXPECT_THAT(Message(ExpertMask::FromBitmap(kShape, bitmap).status()),
                  HasSubstr("router " + std::to_string(router) + " has a padding bit"));
    }
  }
  EXPECT_TRUE(ExpertMask::FromBitmap({1, 4}, {0xFF, 0xFF}).ok());  // no padding at all
}

TEST(MaskBuilderTest, UnitesEverything) {
  MaskBuilder builder(kShape);
  ASSERT_TRUE(builder.AddExpert(0, 8).ok());
  ASSERT_TRUE(builder.AddExpert(0, 8).ok());
  ASSERT_TRUE(builder.AddRow(1, 0).ok());
  ASSERT_TRUE(builder.AddRow(1, 0).ok());
  ASSERT_TRUE(builder.AddColumn(1, 2).ok());
  ASSERT_TRUE(builder.AddBitmap(0, std::vector<uint8_t>{0x81, 0x00}).ok());
  builder.Add(**ExpertMask::FromBitmap(kShape, {0x04, 0x00, 0x00, 0x00}));
  const auto mask = std::move(builder).Build();
  // Router 0: 0, 2, 7, 8. Router 1: row 0 = 0, 1, 2 and column 2 = 2, 5, 8.
  EXPECT_EQ(Bitmap(*mask), (std::vector<uint8_t>{0x85, 0x01, 0x27, 0x01}));
}

TEST(MaskBuilderTest, RefusesWhatIsOutside) {
  MaskBuilder builder(kShape);
  for (int32_t router : {-1, 2, INT32_MAX, INT32_MIN}) {
    for (const absl::Status& status :
         {builder.AddExpert(router, 0), builder.AddRow(router, 0), builder.AddColumn(router, 0),
          builder.AddBitmap(router, std::vector<uint8_t>(2))}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(Message(status), HasSubstr("outside 0 to 1"));
    }
  }
  for (int64_t expert : {int64_t{-1}, int64_t{9}, INT64_MAX, INT64_MIN}) {
    EXPECT_THAT(Message(builder.AddExpert(0, expert)), HasSubstr("outside 0 to 8"));
  }
  for (int64_t side : {int64_t{-1}, int64_t{3}, INT64_MAX, INT64_MIN}) {
    EXPECT_THAT(Message(builder.AddRow(0, side)), HasSubstr("outside 0 to 2"));
    EXPECT_THAT(Message(builder.AddColumn(0, side)), HasSubstr("outside 0 to 2"));
  }
  EXPECT_FALSE(builder.AddBitmap(0, {}).ok());
  EXPECT_FALSE(builder.AddBitmap(0, std::vector<uint8_t>(3)).ok());
  EXPECT_FALSE(builder.AddBitmap(0, std::vector<uint8_t>{0x00, 0x02}).ok());
  EXPECT_TRUE(std::move(builder).Build()->empty());
}

}  // namespace
}  // namespace monet
