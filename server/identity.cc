#include "server/identity.h"

#include <algorithm>

#include "runtime/base/reasons.h"

namespace monet::server {

bool Identity::Allows(std::string_view policy_name) const {
  return all_policies_allowed || std::find(allowed_policies.begin(), allowed_policies.end(),
                                           policy_name) != allowed_policies.end();
}

absl::StatusOr<Identity> Authenticate(const grpc::ServerContextBase&) { return Identity(); }

absl::StatusOr<ResolvedMask> ResolveCallMask(const PolicySnapshot& snapshot,
                                             const Identity& identity, const MaskChoice& choice) {
  if (!choice.experts.empty() && !identity.explicit_experts_allowed) {
    return Refuse(Reason::kMaskNotAllowed,
                  "mask.experts: this tenant may not give explicit experts");
  }
  // The request's own references are checked alone first, so that its errors count from its own
  // fields and mandatory policies never show up in them.
  MONET_ASSIGN_OR_RETURN(ResolvedMask own, ResolveMask(snapshot, choice.policies, choice.experts));
  for (const auto& policy : own.policies) {
    if (!identity.Allows(policy->name) && !IsMandatory(snapshot, identity, *policy)) {
      return Refuse(Reason::kMaskNotAllowed, "mask.policies: this tenant may not name \"{}\"",
                    policy->name);
    }
  }
  if (identity.mandatory_policies.empty()) return own;
  std::vector<std::string> references = identity.mandatory_policies;
  references.insert(references.end(), choice.policies.begin(), choice.policies.end());
  auto united = ResolveMask(snapshot, references, choice.experts);
  if (!united.ok()) {
    return Refuse(Reason::kPolicyUnavailable, "a mandatory policy of this tenant is not available");
  }
  return united;
}

bool IsMandatory(const PolicySnapshot& snapshot, const Identity& identity, const Policy& policy) {
  for (const std::string& reference : identity.mandatory_policies) {
    const auto found = snapshot.Find(reference);
    if (found.ok() && (*found)->digest == policy.digest && (*found)->name == policy.name &&
        (*found)->version == policy.version) {
      return true;
    }
  }
  return false;
}

}  // namespace monet::server
