#include "runtime/base/utf8.h"

#include <cstdint>

namespace monet {
namespace {

// What may follow a leading byte: the number of continuation bytes and the range of the first of
// them (the others are 80..BF). Zero continuation bytes for a byte that cannot lead.
struct Lead {
  int continuation = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};

Lead LeadOf(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1};
  if (byte == 0xE0) return {2, 0xA0, 0xBF};  // no overlong forms
  if (byte == 0xED) return {2, 0x80, 0x9F};  // no surrogates
  if (byte >= 0xE1 && byte <= 0xEF) return {2};
  if (byte == 0xF0) return {3, 0x90, 0xBF};  // no overlong forms
  if (byte >= 0xF1 && byte <= 0xF3) return {3};
  if (byte == 0xF4) return {3, 0x80, 0x8F};  // nothing above U+10FFFF
  return {};
}

}  // namespace

Utf8Unit NextUtf8(std::string_view text) {
  using Kind = Utf8Unit::Kind;
  const auto first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {Kind::kCharacter, 1};
  const Lead lead = LeadOf(first);
  if (lead.continuation == 0) return {Kind::kInvalid, 1};
  for (int i = 1; i <= lead.continuation; ++i) {
    const auto length = static_cast<size_t>(i);
    if (length == text.size()) return {Kind::kIncomplete, length};
    const auto byte = static_cast<uint8_t>(text[length]);
    const bool fits = i == 1 ? byte >= lead.low && byte <= lead.high : byte >= 0x80 && byte <= 0xBF;
    if (!fits) return {Kind::kInvalid, length};
  }
  return {Kind::kCharacter, static_cast<size_t>(lead.continuation) + 1};
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Unit unit = NextUtf8(text);
    if (unit.kind != Utf8Unit::Kind::kCharacter) return false;
    text.remove_prefix(unit.length);
  }
  return true;
}

}  // namespace monet
