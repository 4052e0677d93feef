#include "runtime/policy/policy_reference.h"

#include <charconv>

namespace monet {
namespace {

// A version as it is written in references: decimal, from 1, no leading zero. 0 when it is none.
int32_t ParseVersion(std::string_view text) {
  if (text.empty() || text[0] < '1' || text[0] > '9') return 0;
  int32_t version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  return error == std::errc() && end == text.data() + text.size() ? version : 0;
}

}  // namespace

bool PolicyReference::Parse(std::string_view text, PolicyReference* out) {
  const size_t at = text.find('@');
  *out = PolicyReference{.name = std::string(text.substr(0, at))};
  if (!IsPolicyName(out->name)) return false;
  if (at == std::string_view::npos) return true;
  const std::string_view rest = text.substr(at + 1);
  out->has_digest = Digest::Parse(rest, &out->digest);
  if (!out->has_digest) out->version = ParseVersion(rest);
  return out->has_digest || out->version > 0;
}

bool PolicyReference::Fits(const Policy& policy) const {
  return policy.name == name && (version == 0 || policy.version == version) &&
         (!has_digest || policy.digest == digest);
}

std::string PolicyReference::ToString() const {
  if (has_digest) return name + "@" + digest.ToString();
  return version == 0 ? name : fmt::format("{}@{}", name, version);
}

}  // namespace monet
