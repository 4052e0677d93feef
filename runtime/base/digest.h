// SHA-256 (OpenSSL) over bytes, for fingerprints and digests of content.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace monet {

// 32 bytes of SHA-256 (FIPS 180-4). Value type.
struct Digest {
  std::array<uint8_t, 32> bytes{};

  // "sha256:" and 64 lower-case hexadecimal digits.
  std::string ToString() const;
  // Accepts exactly what ToString writes; false otherwise.
  static bool Parse(std::string_view text, Digest* out);

  auto operator<=>(const Digest&) const = default;
};

// Streaming SHA-256.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  Hasher& Update(std::string_view bytes);
  Hasher& Update(std::span<const uint8_t> bytes);
  Hasher& UpdateU32(uint32_t value);  // little-endian
  Digest Finish();                    // REQUIRES: called once

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

Digest Sha256(std::span<const uint8_t> bytes);

}  // namespace monet
