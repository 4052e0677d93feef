// A policy file and its mask file, split at the first NUL (which no YAML file may hold). Whatever
// the bytes: a policy that keeps its promises, or INVALID_ARGUMENT.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/policy/policy.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t split = bytes.find('\0');
  const std::string_view yaml = bytes.substr(0, split);
  const std::string_view mask_file =
      split == std::string_view::npos ? std::string_view() : bytes.substr(split + 1);

  const auto mask_name = monet::PolicyMaskFileName(yaml);
  const auto policy = monet::ParsePolicy(yaml, mask_file);
  if (!policy.ok()) {
    Require(policy.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  Require(mask_name.ok() && mask_name->find('/') == std::string::npos);
  Require(monet::IsPolicyName(policy->name) && policy->version >= 1);
  Require(policy->semantics == "zero" && policy->mask != nullptr);
  Require(policy->mask->shape().IsValid());
  Require(policy->digest == monet::PolicyDigest(*policy));
  return 0;
}
