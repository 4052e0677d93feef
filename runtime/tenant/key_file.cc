#include "runtime/tenant/key_file.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <utility>

#include "runtime/base/strict_yaml.h"
#include "runtime/base/visible_ascii.h"
#include "runtime/limits.h"
#include "runtime/policy/policy.h"

namespace monet {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kMaxIdBytes = 63;
constexpr size_t kMaxTimeBytes = 20;

absl::StatusOr<Digest> ReadHash(const YamlView& view) {
  MONET_ASSIGN_OR_RETURN(const std::string text, view.AnyScalar(64));
  Digest digest;
  if (!Digest::Parse("sha256:" + text, &digest)) {
    return view.Fail("must be 64 lower-case hexadecimal digits");
  }
  return digest;
}

absl::StatusOr<KeyEntry> ReadKey(const YamlView& view) {
  MONET_RETURN_IF_ERROR(view.CheckKeys({"tenant", "sha256"}, {"id", "not_after"}));
  KeyEntry entry;
  entry.line = view["tenant"].line();
  MONET_ASSIGN_OR_RETURN(entry.tenant, view["tenant"].String(limits::kMaxPolicyNameBytes));
  if (!IsPolicyName(entry.tenant)) {
    return view["tenant"].Fail("must be lower-case letters, digits and inner hyphens");
  }
  MONET_ASSIGN_OR_RETURN(entry.hash, ReadHash(view["sha256"]));
  if (const YamlView id = view["id"]; id.present()) {
    MONET_ASSIGN_OR_RETURN(entry.id, id.AnyScalar(kMaxIdBytes));
    if (!IsKeyId(entry.id)) {
      return id.Fail("must be visible ASCII characters without quotes and backslashes");
    }
  }
  if (const YamlView not_after = view["not_after"]; not_after.present()) {
    MONET_ASSIGN_OR_RETURN(const std::string text, not_after.AnyScalar(kMaxTimeBytes));
    entry.not_after = ParseUtcTime(text);
    if (!entry.not_after) {
      return not_after.Fail("must be a date or time in UTC: 2027-01-31 or 2027-01-31T12:00:00Z");
    }
  }
  return entry;
}

}  // namespace

bool IsKeyId(std::string_view text) {
  return text.size() <= kMaxIdBytes && std::all_of(text.begin(), text.end(), IsNameCharacter);
}

absl::StatusOr<std::vector<KeyEntry>> ParseKeys(std::string_view yaml) {
  MONET_ASSIGN_OR_RETURN(const YamlNode tree, ParseStrictYaml(yaml, limits::kMaxTenantFileBytes));
  const YamlView root(tree);
  MONET_RETURN_IF_ERROR(root.CheckKeys({"keys"}, {}));
  MONET_ASSIGN_OR_RETURN(const std::vector<YamlView> entries,
                         root["keys"].Sequence(limits::kMaxKeys));
  std::vector<KeyEntry> keys;
  std::map<Digest, int32_t> seen;
  for (const YamlView& view : entries) {
    MONET_ASSIGN_OR_RETURN(KeyEntry entry, ReadKey(view));
    const auto [first, is_new] = seen.emplace(entry.hash, entry.line);
    if (!is_new) {
      return view["sha256"].Fail(
          fmt::format("the key is given twice, first in line {}", first->second));
    }
    keys.push_back(std::move(entry));
  }
  return keys;
}

absl::StatusOr<std::string> NewKey() {
  std::array<uint8_t, kKeyBytes> bits{};
  if (RAND_bytes(bits.data(), static_cast<int>(bits.size())) != 1) {
    return Error(absl::StatusCode::kInternal, "the system gives no random numbers");
  }
  std::array<uint8_t, 4 * ((kKeyBytes + 2) / 3) + 1> text{};
  const int size = EVP_EncodeBlock(text.data(), bits.data(), static_cast<int>(bits.size()));
  std::string key = "monet_";
  for (uint8_t c : std::span(text).first(static_cast<size_t>(size))) {
    if (c == '=') break;
    key += c == '+' ? '-' : c == '/' ? '_' : static_cast<char>(c);
  }
  OPENSSL_cleanse(bits.data(), bits.size());
  OPENSSL_cleanse(text.data(), text.size());
  return key;
}

Digest HashKey(std::string_view key) { return Hasher().Update(key).Finish(); }

std::optional<size_t> FindKey(const std::vector<KeyEntry>& keys, std::string_view presented,
                              UtcTime now) {
  const Digest hash = HashKey(presented);
  std::optional<size_t> found;
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool equal =
        CRYPTO_memcmp(hash.bytes.data(), keys[i].hash.bytes.data(), hash.bytes.size()) == 0;
    if (equal) found = i;
  }
  if (found && keys[*found].not_after && now >= *keys[*found].not_after) return std::nullopt;
  return found;
}

}  // namespace monet
