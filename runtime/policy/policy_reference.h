// How requests and tenants name a policy: `name` (its highest version), `name@version` or
// `name@sha256:…`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/digest.h"
#include "runtime/policy/policy.h"

namespace monet {

struct PolicyReference {
  std::string name;
  int32_t version = 0;  // 0: any
  Digest digest;
  bool has_digest = false;

  // False when the text is none; *out is then undefined.
  static bool Parse(std::string_view text, PolicyReference* out);
  // Whether a policy is of this name and, where they are given, of this version or digest.
  bool Fits(const Policy& policy) const;
  std::string ToString() const;
  bool operator==(const PolicyReference&) const = default;
};

}  // namespace monet
