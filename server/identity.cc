#include "server/identity.h"

#include <grpc/grpc_security_constants.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/reasons.h"
#include "server/certificate_subjects.h"

namespace monet::server {
namespace {

using PolicyPointer = std::shared_ptr<const Policy>;

std::string Text(const grpc::string_ref& ref) { return {ref.data(), ref.size()}; }

std::vector<std::string> MetadataOf(const grpc::ServerContextBase& context, const char* key) {
  std::vector<std::string> values;
  const auto [first, last] = context.client_metadata().equal_range(key);
  for (auto it = first; it != last; ++it) values.push_back(Text(it->second));
  return values;
}

std::vector<std::string> PeerSubjects(const grpc::ServerContextBase& context) {
  const auto peer = context.auth_context();
  if (peer == nullptr || !peer->IsPeerAuthenticated()) return {};
  const auto values = [&](const char* property) {
    std::vector<std::string> texts;
    for (const grpc::string_ref& value : peer->FindPropertyValues(property)) {
      texts.push_back(Text(value));
    }
    return texts;
  };
  return SubjectsOf({.common_names = values(GRPC_X509_CN_PROPERTY_NAME),
                     .whole_subjects = values(GRPC_X509_SUBJECT_PROPERTY_NAME),
                     .dns = values(GRPC_PEER_DNS_PROPERTY_NAME),
                     .uris = values(GRPC_PEER_URI_PROPERTY_NAME),
                     .emails = values(GRPC_PEER_EMAIL_PROPERTY_NAME),
                     .ips = values(GRPC_PEER_IP_PROPERTY_NAME)});
}

absl::StatusOr<std::vector<PolicyPointer>> MandatoryPolicies(const PolicySnapshot& snapshot,
                                                             const Tenant& tenant) {
  std::vector<PolicyPointer> policies;
  for (const PolicyReference& reference : tenant.require) {
    auto policy = snapshot.Find(reference);
    if (!policy.ok()) {
      return Refuse(Reason::kPolicyUnavailable,
                    "a mandatory policy of this tenant is not available");
    }
    policies.push_back(*std::move(policy));
  }
  return policies;
}

}  // namespace

Credentials CredentialsOf(const grpc::ServerContextBase& context) {
  return {MetadataOf(context, "authorization"), MetadataOf(context, "monet-tenant"),
          PeerSubjects(context)};
}

absl::StatusOr<Identity> Authenticate(const TenantRegistry& tenants,
                                      const grpc::ServerContextBase& context) {
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  MONET_ASSIGN_OR_RETURN(auto tenant, tenants.Current()->Identify(CredentialsOf(context), now));
  return Identity{std::move(tenant)};
}

absl::StatusOr<PolicyPointer> FindVisible(const PolicySnapshot& snapshot, const Tenant& tenant,
                                          const std::string& reference) {
  auto policy = snapshot.Find(reference);
  if (policy.ok()) {
    if (tenant.Allows(**policy) || IsMandatory(snapshot, tenant, **policy)) return policy;
    return PolicyUnknown(reference);
  }
  // That another model has a policy of this name is for those to know who may name it.
  const std::string name = reference.substr(0, reference.find('@'));
  if (ReasonOf(policy.status()).reason == Reason::kPolicyModelMismatch &&
      !tenant.AllowsName(name)) {
    return PolicyUnknown(reference);
  }
  return policy;
}

absl::StatusOr<ResolvedMask> ResolveCallMask(const PolicySnapshot& snapshot, const Tenant& tenant,
                                             const MaskChoice& choice) {
  MONET_ASSIGN_OR_RETURN(auto mandatory, MandatoryPolicies(snapshot, tenant));
  if (!choice.experts.empty() && !tenant.explicit_masks) {
    return Refuse(Reason::kMaskNotAllowed,
                  "mask.experts: this tenant may not give explicit experts");
  }
  for (size_t n = 0; n < choice.policies.size(); ++n) {
    const auto policy = FindVisible(snapshot, tenant, choice.policies[n]);
    if (!policy.ok()) return AtField(fmt::format("mask.policies[{}]", n), policy.status());
  }
  return ResolveMask(snapshot, choice.policies, choice.experts, std::move(mandatory));
}

std::shared_ptr<const ExpertMask> ResolveShadow(const PolicySnapshot& snapshot,
                                                const Tenant& tenant) {
  std::vector<PolicyPointer> policies;
  for (const PolicyReference& reference : tenant.shadow) {
    if (auto policy = snapshot.Find(reference); policy.ok()) {
      policies.push_back(*std::move(policy));
    }
  }
  if (policies.empty()) return nullptr;
  const auto shadow = ResolveMask(snapshot, {}, {}, std::move(policies));
  return shadow.ok() ? shadow->mask : nullptr;
}

bool IsMandatory(const PolicySnapshot& snapshot, const Tenant& tenant, const Policy& policy) {
  return std::any_of(tenant.require.begin(), tenant.require.end(),
                     [&](const PolicyReference& reference) {
                       if (!reference.Fits(policy)) return false;
                       const auto found = snapshot.Find(reference);
                       return found.ok() && (*found)->version == policy.version;
                     });
}

}  // namespace monet::server
