// Writes a sentencepiece.ModelProto field by field, well-formed or not, for tests.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace monet::testing {

inline std::string Varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

inline std::string VarintField(int number, uint64_t value) {
  return Varint(static_cast<uint64_t>(number) << 3) + Varint(value);
}

inline std::string BytesField(int number, std::string_view bytes) {
  return Varint((static_cast<uint64_t>(number) << 3) | 2) + Varint(bytes.size()) +
         std::string(bytes);
}

inline std::string FloatField(int number, float value) {
  std::string out = Varint((static_cast<uint64_t>(number) << 3) | 5);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int i = 0; i < 4; ++i) out += static_cast<char>(bits >> (8 * i));
  return out;
}

// Types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
inline std::string Piece(std::string_view text, int type = 1, float score = -1.0f) {
  return BytesField(
      1, BytesField(1, text) + FloatField(2, score) + VarintField(3, static_cast<uint64_t>(type)));
}

inline std::string Specials() { return Piece("<unk>", 2) + Piece("<s>", 3) + Piece("</s>", 3); }

// Training settings (model type 2: BPE) and LLaMA's normalisation: identity, dummy prefix, spaces
// kept as they are.
inline std::string Settings(bool byte_fallback, int model_type = 2, bool drop_spaces = false) {
  return BytesField(2, VarintField(3, static_cast<uint64_t>(model_type)) +
                           VarintField(35, byte_fallback ? 1 : 0)) +
         BytesField(3, BytesField(1, "identity") + VarintField(3, 1) +
                           VarintField(4, drop_spaces ? 1 : 0));
}

}  // namespace monet::testing
