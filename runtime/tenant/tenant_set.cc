#include "runtime/tenant/tenant_set.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "runtime/base/reasons.h"

namespace monet {
namespace {

// One text whatever was wrong: which keys and tenants there are stays unknown.
absl::Status Unauthenticated() {
  return Refuse(Reason::kUnauthenticated,
                "the call carries no valid credentials of a tenant of this server");
}

// The token of "Bearer TOKEN"; the scheme's case does not matter (RFC 9110). Empty when it is none.
std::string_view BearerToken(std::string_view value) {
  constexpr std::string_view kScheme = "bearer ";
  if (value.size() <= kScheme.size()) return {};
  const bool is_bearer =
      std::equal(kScheme.begin(), kScheme.end(), value.begin(),
                 [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
  return is_bearer ? value.substr(kScheme.size()) : std::string_view();
}

bool Contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

}  // namespace

std::shared_ptr<const TenantSet> TenantSet::Open() {
  std::shared_ptr<TenantSet> set(new TenantSet());
  set->open_ = true;
  set->tenants_ = {OpenTenant()};
  set->Index();
  return set;
}

absl::StatusOr<std::shared_ptr<const TenantSet>> TenantSet::Make(TenantFile file,
                                                                 std::vector<KeyEntry> keys) {
  std::shared_ptr<TenantSet> set(new TenantSet());
  set->tenants_ = std::move(file.tenants);
  set->gateway_subjects_ = std::move(file.gateway_subjects);
  set->Index();
  for (const KeyEntry& key : keys) {
    if (set->Find(key.tenant) == nullptr) {
      return InvalidArgument("line {}: there is no tenant {}", key.line, key.tenant);
    }
    if (key.tenant == kAnonymous) {
      return InvalidArgument("line {}: anonymous is for callers without credentials", key.line);
    }
  }
  set->keys_ = std::move(keys);
  return set;
}

void TenantSet::Index() {
  for (const auto& tenant : tenants_) {
    by_name_.emplace(tenant->name, tenant);
    for (const std::string& subject : tenant->subjects) by_subject_.emplace(subject, tenant);
  }
}

std::shared_ptr<const Tenant> TenantSet::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

bool TenantSet::HasWayIn(bool client_certificates) const {
  if (!keys_.empty() || Find(kAnonymous) != nullptr) return true;
  return client_certificates && (!by_subject_.empty() || !gateway_subjects_.empty());
}

std::shared_ptr<const Tenant> TenantSet::OfSubjects(const std::vector<std::string>& subjects,
                                                    bool* ambiguous) const {
  std::shared_ptr<const Tenant> tenant;
  for (const std::string& subject : subjects) {
    const auto found = by_subject_.find(subject);
    if (found == by_subject_.end()) continue;
    *ambiguous = *ambiguous || (tenant != nullptr && tenant != found->second);
    tenant = found->second;
  }
  return tenant;
}

absl::StatusOr<std::shared_ptr<const Tenant>> TenantSet::Identify(const Credentials& credentials,
                                                                  UtcTime now) const {
  if (!credentials.gateway_tenant.empty()) {
    const bool from_gateway =
        std::any_of(credentials.subjects.begin(), credentials.subjects.end(),
                    [&](const std::string& s) { return Contains(gateway_subjects_, s); });
    const auto tenant = Find(credentials.gateway_tenant[0]);
    if (!from_gateway || credentials.gateway_tenant.size() > 1 || tenant == nullptr) {
      return Unauthenticated();
    }
    return tenant;
  }
  bool ambiguous = false;
  const auto certified = OfSubjects(credentials.subjects, &ambiguous);
  if (ambiguous) return Unauthenticated();
  if (!credentials.authorization.empty()) {
    const std::string_view token = BearerToken(credentials.authorization[0]);
    const auto key = FindKey(keys_, token, now);
    if (credentials.authorization.size() > 1 || token.empty() || !key) return Unauthenticated();
    const auto tenant = Find(keys_[*key].tenant);
    if (certified != nullptr && certified != tenant) return Unauthenticated();
    return tenant;
  }
  if (certified != nullptr) return certified;
  if (const auto anonymous = Find(kAnonymous)) return anonymous;
  return Unauthenticated();
}

}  // namespace monet
