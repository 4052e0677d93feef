// The digest of a policy is of what it does, not of how its file is written.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "runtime/policy/policy.h"
#include "tests/policy/policy_writer.h"

namespace monet {
namespace {

using testing::HexSha256;
using testing::ModelDigest;

constexpr MaskShape kShape{2, 5};  // 25 experts a router: padding bits

std::string CompressAt(const std::vector<uint8_t>& bytes, int level) {
  uLongf size = compressBound(bytes.size());
  std::string out(size, '\0');
  EXPECT_EQ(
      compress2(reinterpret_cast<Bytef*>(out.data()), &size, bytes.data(), bytes.size(), level),
      Z_OK);
  out.resize(size);
  return out;
}

std::vector<std::string> Lines(const std::vector<uint8_t>& bitmap) {
  return {"format: 1",           "name: no-test",
          "version: 1",          "model: " + ModelDigest(1).ToString(),
          "semantics: zero",     "routers: 2",
          "experts_per_side: 5", "experts: {file: any.mask, sha256: " + HexSha256(bitmap) + "}"};
}

std::string Join(const std::vector<std::string>& lines, const std::string& between) {
  std::string text;
  for (const std::string& line : lines) text += line + between;
  return text;
}

Digest DigestOf(const std::string& yaml, const std::string& mask) {
  const auto policy = ParsePolicy(yaml, mask);
  EXPECT_TRUE(policy.ok()) << Message(policy.status()) << "\n" << yaml;
  return policy.ok() ? policy->digest : Digest();
}

TEST(PolicyDigestTest, OrderSpacingAndCompressionDoNotChangeIt) {
  std::mt19937 random(3);
  const auto bitmap = testing::RandomBitmap(kShape, 30, random);
  std::vector<std::string> lines = Lines(bitmap);
  const Digest digest = DigestOf(Join(lines, "\n"), CompressAt(bitmap, 9));
  std::set<std::string> masks;
  for (const int level : {0, 1, 6, 9}) {
    masks.insert(CompressAt(bitmap, level));
    EXPECT_EQ(DigestOf(Join(lines, "\n"), CompressAt(bitmap, level)), digest) << level;
  }
  EXPECT_GT(masks.size(), 1u);  // else nothing was shown
  for (int n = 0; n < 20; ++n) {
    std::shuffle(lines.begin(), lines.end(), random);
    EXPECT_EQ(DigestOf(Join(lines, "\n"), CompressAt(bitmap, 9)), digest);
    EXPECT_EQ(DigestOf(Join(lines, "   # a comment\n\n"), CompressAt(bitmap, 9)), digest);
  }
  lines.push_back("description: Other words");
  lines.push_back("built: {rule: ratio, ratio: 2.0}");
  EXPECT_EQ(DigestOf(Join(lines, "\r\n"), CompressAt(bitmap, 9)), digest);
}

TEST(PolicyDigestTest, EveryExpertChangesIt) {
  std::mt19937 random(4);
  const auto bitmap = testing::RandomBitmap(kShape, 30, random);
  std::set<std::string> digests = {
      DigestOf(Join(Lines(bitmap), "\n"), CompressAt(bitmap, 9)).ToString()};
  for (int32_t router = 0; router < kShape.routers; ++router) {
    for (int32_t expert = 0; expert < 25; ++expert) {
      auto other = bitmap;
      other[router * kShape.BytesPerRouter() + expert / 8] ^= static_cast<uint8_t>(1 << expert % 8);
      digests.insert(DigestOf(Join(Lines(other), "\n"), CompressAt(other, 9)).ToString());
    }
  }
  EXPECT_EQ(digests.size(), 51u);
}

}  // namespace
}  // namespace monet
