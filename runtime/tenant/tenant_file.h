// tenants.yaml: who the tenants are and what each may do. No secrets in it.
//
//   gateway:                      optional: proxies whose header `monet-tenant` is believed
//     subjects: ["CN=envoy"]      of their client certificates; see tenant_set.h
//   tenants:
//   - name: acme                  [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 bytes; not "other"
//     require: [no-insults@1]     always on; name, name@version or name@sha256:…
//     allow: [no-python]          may be asked for; the same forms, or the word all. Default: none
//     explicit_masks: false       may give explicit experts. Default: false
//     shadow: []                  policies that are measured and not applied: how much routing
//                                 weight they would remove together. Never one of require
//     subjects: ["CN=acme"]       client certificates that are this tenant's
//     cache_domain: acme          whose cached prefixes it will share. Default: its name
//     weight: 1                   share of the machine when tenants compete, 1 to 1000. Default: 1
//     limits:                     each is optional
//       {requests_per_minute, tokens_per_minute, concurrent, distinct_masks, max_prompt_tokens,
//        max_tokens, max_n, max_top_logprobs, max_priority}
//
// The tenant `anonymous` is everybody who gives no credentials; without it nobody is served who
// gives none. Parsed strictly (runtime/base/strict_yaml.h): one error refuses the whole file.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/tenant/tenant.h"

namespace monet {

struct TenantFile {
  std::vector<std::shared_ptr<const Tenant>> tenants;  // in the file's order; names are unique
  std::vector<std::string> gateway_subjects;           // disjoint from every tenant's
};

// Errors: INVALID_ARGUMENT naming key and line.
absl::StatusOr<TenantFile> ParseTenants(std::string_view yaml);

}  // namespace monet
