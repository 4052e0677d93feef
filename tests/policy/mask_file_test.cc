#include "runtime/policy/mask_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/policy/policy_writer.h"

namespace monet {
namespace {

using testing::Compress;
using ::testing::HasSubstr;

std::string Refusal(std::string_view compressed, size_t bytes) {
  const auto inflated = InflateMask(compressed, bytes);
  if (inflated.ok()) return "accepted";
  EXPECT_EQ(inflated.status().code(), absl::StatusCode::kInvalidArgument);
  return Message(inflated.status());
}

TEST(MaskFileTest, InflatesExactly) {
  std::mt19937 random(3);
  for (size_t size : {1, 7, 4096, 100000}) {
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    const auto inflated = InflateMask(Compress(bytes), size);
    ASSERT_TRUE(inflated.ok());
    EXPECT_EQ(*inflated, bytes);
    EXPECT_THAT(Refusal(Compress(bytes), size + 1), HasSubstr("not " + std::to_string(size + 1)));
    EXPECT_THAT(Refusal(Compress(bytes), size - 1), HasSubstr("more than"));
  }
}

TEST(MaskFileTest, ABombIsCutOff) {
  const std::string bomb = Compress(std::string(64 << 20, '\0'));
  EXPECT_THAT(Refusal(bomb, 16384), HasSubstr("more than 16384 bytes"));
}

TEST(MaskFileTest, RefusesEveryTruncation) {
  const std::string good = Compress(std::string(1000, 'x') + "yz");
  ASSERT_EQ(Refusal(good, 1002), "accepted");
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_THAT(Refusal(good.substr(0, length), 1002), HasSubstr("cut short")) << length;
  }
}

TEST(MaskFileTest, RefusesWhatFollowsAndWhatIsNoStream) {
  const std::string good = Compress(std::string(100, 'x'));
  EXPECT_THAT(Refusal(good + '\0', 100), HasSubstr("goes on"));
  EXPECT_THAT(Refusal(good + good, 100), HasSubstr("goes on"));
  EXPECT_THAT(Refusal("not zlib", 100), HasSubstr("no zlib stream"));
  EXPECT_THAT(Refusal("\x1f\x8b\x08", 100), HasSubstr("no zlib stream"));  // gzip
  std::string checksum = good;
  checksum.back() ^= 1;
  EXPECT_THAT(Refusal(checksum, 100), HasSubstr("no zlib stream"));
  EXPECT_THAT(Refusal("\x78\xbb\x01\x02\x03\x04", 100), HasSubstr("no zlib"));  // preset dictionary
}

}  // namespace
}  // namespace monet
