#include "server/admin_token.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "runtime/limits.h"

namespace monet::server {
namespace {

Digest DigestOf(std::string_view text) { return Hasher().Update(text).Finish(); }

absl::StatusOr<Digest> ReadToken(const std::filesystem::path& path) {
  const auto error = [&path](std::string_view what) {
    return InvalidArgument("admin_token_file {}: {}", path.string(), what);
  };
  std::ifstream file(path, std::ios::binary);
  std::string text(limits::kMaxAdminTokenBytes + 3, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return error("cannot be read");
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  const bool visible =
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (!visible || text.size() < limits::kMinAdminTokenBytes ||
      text.size() > limits::kMaxAdminTokenBytes) {
    return error(fmt::format("holds no token of {} to {} visible ASCII characters",
                             limits::kMinAdminTokenBytes, limits::kMaxAdminTokenBytes));
  }
  return DigestOf(text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AdminToken>> AdminToken::Load(const std::filesystem::path& path) {
  MONET_ASSIGN_OR_RETURN(const Digest digest, ReadToken(path));
  return std::unique_ptr<AdminToken>(new AdminToken(path, digest));
}

bool AdminToken::Matches(std::string_view presented) const {
  const Digest digest = DigestOf(presented);
  std::lock_guard lock(mutex_);
  return CRYPTO_memcmp(digest.bytes.data(), digest_.bytes.data(), digest.bytes.size()) == 0;
}

absl::StatusOr<ReloadOutcome> AdminToken::Reload(ReloadTrigger trigger) {
  MONET_ASSIGN_OR_RETURN(const auto digest,
                         watched_.Read<Digest>(trigger, [this] { return ReadToken(path_); }));
  std::lock_guard lock(mutex_);
  const bool changed = digest && *digest != digest_;
  if (changed) digest_ = *digest;
  return ReloadOutcome{changed, changed ? "another token" : "the same token"};
}

}  // namespace monet::server
