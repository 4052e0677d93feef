// A tenant: what is always removed for it, what it may ask for, and how much. Plain data, immutable
// once it is part of a TenantSet; a running call keeps the tenant that it was admitted with.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/policy/policy.h"
#include "runtime/policy/policy_reference.h"

namespace monet {

// The tenant of callers without credentials, where tenants.yaml has it.
inline constexpr std::string_view kAnonymous = "anonymous";

// What is absent is bounded by the server's own limits only, but for max_priority, which is then 0.
struct TenantLimits {
  std::optional<int64_t> requests_per_minute;  // calls of any method
  std::optional<int64_t> tokens_per_minute;    // prompt and generated
  std::optional<int64_t> concurrent;           // calls at a time
  std::optional<int64_t> distinct_masks;       // that run at a time; calls with others wait
  std::optional<int64_t> max_prompt_tokens;
  std::optional<int64_t> max_tokens;  // generated, each completion
  std::optional<int64_t> max_n;       // completions of a call
  std::optional<int64_t> max_top_logprobs;
  std::optional<int64_t> max_priority;
};

struct Tenant {
  std::string name;
  std::vector<PolicyReference> require;  // in force on every call
  bool allow_all = false;                // may name every policy
  std::vector<PolicyReference> allow;    // may name these, when not all
  std::vector<PolicyReference> shadow;   // measured together, not applied
  bool explicit_masks = false;           // may give explicit experts
  std::vector<std::string> subjects;     // of client certificates
  TenantLimits limits;
  std::string
      cache_domain;    // whose cached prefixes its calls will share; its own name unless configured
  int32_t weight = 1;  // share of the machine when tenants compete
  // Where each key stands in tenants.yaml, from 1: "require[0]", "limits.concurrent"; "" is the
  // tenant itself. Empty for a tenant that no file has.
  std::map<std::string, int32_t> lines;

  bool Allows(const Policy& policy) const;
  // As Allows, for a name of which nothing else is known.
  bool AllowsName(std::string_view policy_name) const;
};

// The caller of a server without tenants: may do everything, at any priority, has no limits.
std::shared_ptr<const Tenant> OpenTenant();

}  // namespace monet
