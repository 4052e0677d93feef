#include "runtime/base/digest.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace monet {
namespace {

std::string Hex(std::string_view text) { return Hasher().Update(text).Finish().ToString(); }

// FIPS 180-4 examples and NIST's long message.
TEST(DigestTest, AgreesWithFipsVectors) {
  EXPECT_EQ(Hex(""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hex("abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
            "sha256:cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(Hex(std::string(1000000, 'a')),
            "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(DigestTest, PiecesGiveTheDigestOfTheWhole) {
  const std::string text(1000, 'q');
  Hasher hasher;
  for (size_t at = 0; at < text.size(); at += 7) {
    hasher.Update(std::string_view(text).substr(at, 7));
  }
  EXPECT_EQ(hasher.Finish().ToString(), Hex(text));
  const std::vector<uint8_t> bytes(text.begin(), text.end());
  EXPECT_EQ(Sha256(bytes).ToString(), Hex(text));
  EXPECT_EQ(Hasher().Update(std::span<const uint8_t>(bytes)).Finish(), Sha256(bytes));
}

TEST(DigestTest, NumbersAreLittleEndian) {
  const std::vector<uint8_t> bytes = {0x04, 0x03, 0x02, 0x01, 0xFF, 0xFF, 0xFF, 0xFF};
  EXPECT_EQ(Hasher().UpdateU32(0x01020304).UpdateU32(0xFFFFFFFF).Finish(), Sha256(bytes));
}

TEST(DigestTest, ParsesWhatItWritesAndNothingElse) {
  const std::string good = Hex("abc");
  Digest digest;
  ASSERT_TRUE(Digest::Parse(good, &digest));
  EXPECT_EQ(digest.ToString(), good);
  EXPECT_EQ(digest.bytes[0], 0xBA);

  std::string upper = good;
  upper[7] = 'B';
  std::string sha512 = good;
  sha512.replace(3, 3, "512");
  std::string sha1 = good;
  sha1.replace(0, 3, "SHA");
  std::string no_hex = good;
  no_hex.back() = 'g';
  for (const std::string& bad :
       {std::string(), std::string("sha256:"), good.substr(7), good + "0", std::string(71, ' '),
        good.substr(0, good.size() - 1), sha1, sha512, upper, no_hex}) {
    EXPECT_FALSE(Digest::Parse(bad, &digest)) << bad;
  }
}

TEST(DigestTest, Orders) {
  Digest low;
  Digest high;
  high.bytes[31] = 1;
  EXPECT_LT(low, high);
  low.bytes[0] = 1;
  EXPECT_GT(low, high);
}

}  // namespace
}  // namespace monet
