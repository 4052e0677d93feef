#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "runtime/policy/registry.h"

namespace monet {
namespace {

absl::Status CheckCounts(const std::vector<std::string>& references,
                         const std::vector<ExplicitExperts>& experts) {
  if (references.size() > limits::kMaxRequestPolicies) {
    return InvalidField("mask.policies: {} entries, limit {}", references.size(),
                        limits::kMaxRequestPolicies);
  }
  if (experts.size() > limits::kMaxMaskRouterEntries) {
    return InvalidField("mask.experts: {} entries, limit {}", experts.size(),
                        limits::kMaxMaskRouterEntries);
  }
  size_t named = 0;
  for (const ExplicitExperts& group : experts) {
    named += group.ids.size() + group.rows.size() + group.columns.size();
  }
  if (named > limits::kMaxExplicitExperts) {
    return InvalidField("mask.experts: {} ids, rows and columns, limit {}", named,
                        limits::kMaxExplicitExperts);
  }
  return absl::OkStatus();
}

template <typename Add>
absl::Status AddList(const std::string& field, const std::vector<int64_t>& values, Add add) {
  for (size_t n = 0; n < values.size(); ++n) {
    const absl::Status status = add(values[n]);
    if (!status.ok()) return AtField(fmt::format("{}[{}]", field, n), status);
  }
  return absl::OkStatus();
}

absl::Status AddExplicit(const std::string& field, const ExplicitExperts& group,
                         const MaskShape& shape, MaskBuilder* builder) {
  const int32_t router = group.router;
  if (router < 0 || router >= shape.routers) {
    return InvalidField("{}.router: {} is outside 0 to {}", field, router, shape.routers - 1);
  }
  MONET_RETURN_IF_ERROR(AddList(field + ".ids", group.ids,
                                [&](int64_t id) { return builder->AddExpert(router, id); }));
  MONET_RETURN_IF_ERROR(
      AddList(field + ".rows", group.rows, [&](int64_t i) { return builder->AddRow(router, i); }));
  MONET_RETURN_IF_ERROR(AddList(field + ".columns", group.columns,
                                [&](int64_t j) { return builder->AddColumn(router, j); }));
  if (group.bitmap.empty()) return absl::OkStatus();
  return AtField(field + ".bitmap", builder->AddBitmap(router, group.bitmap));
}

bool SamePolicy(const std::shared_ptr<const Policy>& a, const std::shared_ptr<const Policy>& b) {
  return a->name == b->name && a->version == b->version;
}

}  // namespace

absl::StatusOr<ResolvedMask> ResolveMask(const PolicySnapshot& snapshot,
                                         const std::vector<std::string>& references,
                                         const std::vector<ExplicitExperts>& experts,
                                         std::vector<std::shared_ptr<const Policy>> mandatory) {
  MONET_RETURN_IF_ERROR(CheckCounts(references, experts));
  ResolvedMask resolved;
  resolved.policies = std::move(mandatory);
  std::vector<std::shared_ptr<const Policy>>& policies = resolved.policies;
  for (size_t n = 0; n < references.size(); ++n) {
    auto policy = snapshot.Find(references[n]);
    if (!policy.ok()) return AtField(fmt::format("mask.policies[{}]", n), policy.status());
    policies.push_back(*std::move(policy));
  }
  std::sort(policies.begin(), policies.end(), [](const auto& a, const auto& b) {
    return std::tie(a->name, a->version) < std::tie(b->name, b->version);
  });
  policies.erase(std::unique(policies.begin(), policies.end(), SamePolicy), policies.end());

  // The common cases share a mask instead of copying and hashing one.
  if (experts.empty() && policies.empty()) {
    resolved.mask = snapshot.none();
    return resolved;
  }
  if (experts.empty() && policies.size() == 1) {
    resolved.mask = policies[0]->mask;
    return resolved;
  }
  MaskBuilder builder(snapshot.shape());
  for (const auto& policy : policies) builder.Add(*policy->mask);
  for (size_t n = 0; n < experts.size(); ++n) {
    MONET_RETURN_IF_ERROR(
        AddExplicit(fmt::format("mask.experts[{}]", n), experts[n], snapshot.shape(), &builder));
  }
  resolved.mask = std::move(builder).Build();
  return resolved;
}

}  // namespace monet
