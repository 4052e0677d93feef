#include "runtime/policy/version_history.h"

#include <algorithm>

#include "runtime/limits.h"

namespace monet {

void VersionHistory::Follow(const VersionHistory& previous) {
  retired_ = previous.retired_;
  next_order_ = previous.next_order_;
  for (const auto& [key, digest] : previous.present_) {
    retired_[key] = {digest, next_order_++};
  }
}

absl::Status VersionHistory::Add(const Policy& policy) {
  const Key key{policy.name, policy.version, policy.model};
  if (const auto before = retired_.find(key); before != retired_.end()) {
    if (before->second.digest != policy.digest) {
      return InvalidArgument("the content of a version has changed; give it another number");
    }
    retired_.erase(before);
  }
  if (!present_.emplace(key, policy.digest).second) {
    return InvalidArgument("another file is of the same version and model");
  }
  return absl::OkStatus();
}

void VersionHistory::Finish() {
  if (retired_.size() <= limits::kMaxRetiredVersions) return;
  std::vector<uint64_t> orders;
  orders.reserve(retired_.size());
  for (const auto& [key, retired] : retired_) orders.push_back(retired.order);
  const auto first_kept = orders.end() - limits::kMaxRetiredVersions;
  std::nth_element(orders.begin(), first_kept, orders.end());
  std::erase_if(retired_, [&](const auto& entry) { return entry.second.order < *first_kept; });
}

}  // namespace monet
