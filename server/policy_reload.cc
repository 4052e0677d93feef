#include "server/policy_reload.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

namespace monet::server {
namespace {

using SnapshotPtr = std::shared_ptr<const PolicySnapshot>;

constexpr size_t kMaxNames = 8;  // in a summary

// What tells two policies of one model apart for a client: everything that the API shows.
std::set<std::string> Identities(const PolicySnapshot& snapshot) {
  std::set<std::string> identities;
  for (const auto& policy : snapshot.policies()) {
    identities.insert(fmt::format("{}@{} {} {}", policy->name, policy->version,
                                  policy->digest.ToString(), policy->description));
  }
  return identities;
}

std::set<std::string> Names(const PolicySnapshot& snapshot) {
  std::set<std::string> names;
  for (const auto& policy : snapshot.policies()) {
    names.insert(fmt::format("{}@{}", policy->name, policy->version));
  }
  return names;
}

// "added a@1, b@1 and 3 more"; empty when nothing is in `all` that is not in `known`.
std::string Difference(const char* verb, const std::set<std::string>& all,
                       const std::set<std::string>& known) {
  std::vector<std::string> names;
  std::set_difference(all.begin(), all.end(), known.begin(), known.end(),
                      std::back_inserter(names));
  if (names.empty()) return "";
  const size_t shown = std::min(names.size(), kMaxNames);
  std::string text = fmt::format(
      "{} {}", verb, fmt::join(names.begin(), names.begin() + static_cast<int>(shown), ", "));
  if (shown < names.size()) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

}  // namespace

std::string PolicySummary(const PolicySnapshot& snapshot) {
  return fmt::format("{} policies", snapshot.policies().size());
}

std::string PolicySummary(const PolicySnapshot& before, const PolicySnapshot& now) {
  std::string text = PolicySummary(now);
  const std::set<std::string> old_names = Names(before);
  const std::set<std::string> names = Names(now);
  const std::string added = Difference("added", names, old_names);
  const std::string removed = Difference("removed", old_names, names);
  if (!added.empty()) text += "; " + added;
  if (!removed.empty()) text += (added.empty() ? "; " : ", ") + removed;
  return text;
}

PolicyReload::PolicyReload(std::filesystem::path directory, PolicyRegistry* registry,
                           Metrics* metrics)
    : directory_(std::move(directory)),
      registry_(registry),
      metrics_(metrics),
      watched_({directory_}) {}

absl::StatusOr<ReloadOutcome> PolicyReload::Run(ReloadTrigger trigger) {
  const SnapshotPtr before = registry_->Current();
  auto next = watched_.Read<SnapshotPtr>(trigger, [&]() -> absl::StatusOr<SnapshotPtr> {
    std::error_code error;
    if (!std::filesystem::is_directory(directory_, error)) {
      return InvalidArgument("not a directory");
    }
    return PolicySnapshot::Load(directory_, before->model(), before->shape(), before.get());
  });
  if (!next.ok()) {
    metrics_->CountPolicyReloadFailure();
    return InvalidArgument("policies {}: {}", directory_.string(), Message(next.status()));
  }
  if (!*next) return ReloadOutcome{false, PolicySummary(*before)};
  registry_->Swap(**next);
  metrics_->SetPolicies(***next);
  return ReloadOutcome{Identities(***next) != Identities(*before), PolicySummary(*before, ***next)};
}

}  // namespace monet::server
