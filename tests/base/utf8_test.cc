#include "runtime/base/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace monet {
namespace {

// By the definition: the code point in the fewest bytes.
std::string EncodeCodePoint(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | (c >> 6)), byte(0x80 | (c & 63))};
  if (c < 0x10000) {
    return {byte(0xE0 | (c >> 12)), byte(0x80 | ((c >> 6) & 63)), byte(0x80 | (c & 63))};
  }
  return {byte(0xF0 | (c >> 18)), byte(0x80 | ((c >> 12) & 63)), byte(0x80 | ((c >> 6) & 63)),
          byte(0x80 | (c & 63))};
}

TEST(Utf8Test, AcceptsExactlyTheScalarValues) {
  for (uint32_t c = 0; c < 0x200000; ++c) {
    const bool scalar = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
    const std::string text = EncodeCodePoint(c);
    ASSERT_EQ(IsUtf8(text), scalar) << std::hex << c;
    if (!scalar) continue;
    const Utf8Unit unit = NextUtf8(text + "\x80");
    ASSERT_EQ(unit.kind, Utf8Unit::Kind::kCharacter);
    ASSERT_EQ(unit.length, text.size());
    for (size_t length = 1; length < text.size(); ++length) {
      const Utf8Unit part = NextUtf8(std::string_view(text).substr(0, length));
      ASSERT_EQ(part.kind, Utf8Unit::Kind::kIncomplete);
      ASSERT_EQ(part.length, length);
    }
  }
}

TEST(Utf8Test, RefusesOverlongForms) {
  for (const char* text : {"\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xE0\x9F\xBF",
                           "\xF0\x80\x80\xAF", "\xF0\x8F\xBF\xBF", "\xF8\x88\x80\x80\x80"}) {
    EXPECT_FALSE(IsUtf8(text));
  }
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8(std::string_view("\0", 1)));
}

// The lengths of the units of a text; negative ones are not characters.
std::string Units(std::string_view text) {
  std::string lengths;
  while (!text.empty()) {
    const Utf8Unit unit = NextUtf8(text);
    lengths += unit.kind == Utf8Unit::Kind::kCharacter    ? 'c'
               : unit.kind == Utf8Unit::Kind::kIncomplete ? 'i'
                                                          : 'x';
    lengths += std::to_string(unit.length);
    text.remove_prefix(unit.length);
  }
  return lengths;
}

TEST(Utf8Test, FindsMaximalSubparts) {
  // Tables 3-8 to 3-11 of the Unicode Standard.
  EXPECT_EQ(Units("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "x1x1x1x1x1x1x1x1c1");
  EXPECT_EQ(Units("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "x1x1x1x1x1x1x1x1c1");
  EXPECT_EQ(Units("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "x1x1x1x1x1c1x1x1c1");
  EXPECT_EQ(Units("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "x2x1x3x2c1");
  EXPECT_EQ(Units("\xF1\x80\x80"), "i3");
}

}  // namespace
}  // namespace monet
