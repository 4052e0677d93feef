// Policies that a tenant may ask for or has measured, and that nobody has: mostly misspelt. Such a
// tenant is served, unlike one whose mandatory policies are missing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/policy/registry.h"
#include "runtime/tenant/tenant_set.h"

namespace monet {

// One line each, for people: "tenants.yaml:6: tenant acme, allow[1]: policy no-pyton is not known;
// is no-python meant?". In the order of the tenants and their lists. `file` is the file's name to
// show. Without policies (null) only what looks like the word `all` is told.
std::vector<std::string> WarnOfNames(const TenantSet& tenants, const PolicySnapshot* policies,
                                     std::string_view file);

}  // namespace monet
