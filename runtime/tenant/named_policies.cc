#include "runtime/tenant/named_policies.h"

#include <algorithm>
#include <numeric>

namespace monet {
namespace {

constexpr std::string_view kAll = "all";
constexpr size_t kMostEdits = 2;

// Characters to add, remove or replace (Levenshtein).
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

// What was meant, perhaps; empty when nothing comes near.
std::string Nearest(const PolicyReference& reference, const PolicySnapshot& policies) {
  const Policy* nearest = nullptr;
  // A short name is near to too many.
  size_t best = std::clamp(reference.name.size() / 2, size_t{1}, kMostEdits + 1);
  for (const auto& policy : policies.policies()) {
    const size_t distance = EditDistance(reference.name, policy->name);
    // Of one name's versions the highest, which comes last.
    if (distance < best || (nearest != nullptr && policy->name == nearest->name)) {
      best = std::min(best, distance);
      nearest = policy.get();
    }
  }
  if (nearest == nullptr) return "";
  const bool same_name = nearest->name == reference.name;
  return same_name ? fmt::format("{}@{}", nearest->name, nearest->version) : nearest->name;
}

// Why the entry is not what it seems; empty when it is.
std::string ProblemOf(const PolicyReference& reference, const PolicySnapshot* policies,
                      bool may_be_all) {
  std::string hint;
  if (may_be_all && reference.ToString() == kAll) {
    hint = "`allow: all`, without brackets, allows every policy";
  }
  if (policies == nullptr) return hint;
  const auto policy = policies->Find(reference);
  if (policy.ok()) return "";
  if (hint.empty() && policy.status().code() == absl::StatusCode::kNotFound) {
    const std::string nearest = Nearest(reference, *policies);
    if (!nearest.empty()) hint = fmt::format("is {} meant?", nearest);
  }
  return Message(policy.status()) + (hint.empty() ? "" : "; " + hint);
}

}  // namespace

std::vector<std::string> WarnOfNames(const TenantSet& tenants, const PolicySnapshot* policies,
                                     std::string_view file) {
  std::vector<std::string> warnings;
  for (const auto& tenant : tenants.tenants()) {
    const auto look_up = [&](const std::vector<PolicyReference>& list, std::string_view key) {
      for (size_t n = 0; n < list.size(); ++n) {
        const std::string problem = ProblemOf(list[n], policies, key == "allow");
        if (problem.empty()) continue;
        const std::string entry = fmt::format("{}[{}]", key, n);
        warnings.push_back(fmt::format("{}:{}: tenant {}, {}: {}", file, tenant->lines.at(entry),
                                       tenant->name, entry, problem));
      }
    };
    look_up(tenant->allow, "allow");
    look_up(tenant->shadow, "shadow");
  }
  return warnings;
}

}  // namespace monet
