#include "runtime/base/digest.h"

#include <openssl/evp.h>

#include <cstdlib>

namespace monet {
namespace {

constexpr std::string_view kPrefix = "sha256:";

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// OpenSSL's SHA-256 fails only on a broken installation; going on would weaken every digest.
void Require(int ok) {
  if (ok != 1) std::abort();
}

}  // namespace

std::string Digest::ToString() const {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text(kPrefix);
  for (uint8_t byte : bytes) {
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

bool Digest::Parse(std::string_view text, Digest* out) {
  if (text.size() != kPrefix.size() + 64 || !text.starts_with(kPrefix)) return false;
  text.remove_prefix(kPrefix.size());
  for (size_t i = 0; i < 32; ++i) {
    const int high = HexValue(text[2 * i]);
    const int low = HexValue(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out->bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

struct Hasher::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
};

Hasher::Hasher() : impl_(std::make_unique<Impl>()) {
  Require(EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr));
}

Hasher::~Hasher() { EVP_MD_CTX_free(impl_->context); }

Hasher& Hasher::Update(std::string_view bytes) {
  Require(EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()));
  return *this;
}

Hasher& Hasher::Update(std::span<const uint8_t> bytes) {
  Require(EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()));
  return *this;
}

Hasher& Hasher::UpdateU32(uint32_t value) {
  const uint8_t bytes[4] = {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8),
                            static_cast<uint8_t>(value >> 16), static_cast<uint8_t>(value >> 24)};
  return Update(bytes);
}

Digest Hasher::Finish() {
  Digest digest;
  unsigned int size = 0;
  Require(EVP_DigestFinal_ex(impl_->context, digest.bytes.data(), &size));
  return digest;
}

Digest Sha256(std::span<const uint8_t> bytes) { return Hasher().Update(bytes).Finish(); }

}  // namespace monet
