// keys.yaml: which API key is whose. It holds SHA-256 hashes only; a key is 256 random bits, so its
// hash tells nothing. Several keys of one tenant are how keys are rotated.
//
//   keys:
//   - tenant: acme                  a tenant of tenants.yaml
//     sha256: 9f86d081884c7d65…     64 lower-case hexadecimal digits: of the whole key
//     id: laptop                    optional: tells keys apart, at most 63 visible characters
//     not_after: 2027-01-31         optional: refused from this moment on, UTC (also
//                                   2027-01-31T12:00:00Z)
//
// Parsed strictly (runtime/base/strict_yaml.h): one error refuses the whole file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "runtime/tenant/utc_time.h"

namespace monet {

struct KeyEntry {
  std::string tenant;
  Digest hash;
  std::string id;  // may be empty
  std::optional<UtcTime> not_after;
  int32_t line = 0;
};

// Hashes are unique. Errors: INVALID_ARGUMENT naming key and line.
absl::StatusOr<std::vector<KeyEntry>> ParseKeys(std::string_view yaml);

// A new key, "monet_" and 43 characters of base64url. Errors: INTERNAL when the system has no
// random numbers.
absl::StatusOr<std::string> NewKey();
// What an id may be: at most 63 visible ASCII characters without quotes and backslashes.
bool IsKeyId(std::string_view text);
Digest HashKey(std::string_view key);

// The entry's index in `keys`; nothing when no entry that is valid at `now` has the key's hash.
// Compares with every entry in constant time, whatever it has found.
std::optional<size_t> FindKey(const std::vector<KeyEntry>& keys, std::string_view presented,
                              UtcTime now);

}  // namespace monet
