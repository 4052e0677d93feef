#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "runtime/policy/policy_reference.h"
#include "runtime/policy/registry.h"

namespace monet {
namespace {

namespace fs = std::filesystem;

// Every policy file may have a mask beside it.
constexpr size_t kMaxEntries = 2 * limits::kMaxPolicies;

using PolicyList = std::vector<std::shared_ptr<const Policy>>;

// The visible entries of a directory in order.
absl::StatusOr<std::vector<fs::path>> ListVisible(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with('.')) continue;
    if (entries.size() == kMaxEntries) {
      return InvalidArgument("more than {} entries", kMaxEntries);
    }
    entries.push_back(it->path());
  }
  if (error) return InvalidArgument("cannot be read: {}", error.message());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool IsPolicyFile(const fs::path& path) { return path.extension() == ".yaml"; }

// Whoever writes a policy writes its mask first, so one without a policy file is no error.
bool IsUnusedMask(const fs::path& path) {
  std::error_code error;
  return path.extension() == ".mask" && fs::is_regular_file(path, error);
}

// What a policy file of a folder is, and what else it needs beside it.
absl::Status CheckOtherEntries(const std::vector<fs::path>& entries,
                               const std::set<std::string>& mask_names) {
  for (const fs::path& entry : entries) {
    if (IsPolicyFile(entry) || mask_names.contains(entry.filename().string())) continue;
    if (IsUnusedMask(entry)) continue;
    return InvalidArgument("{}/{}: neither a policy file nor the mask file of one",
                           entry.parent_path().filename().string(), entry.filename().string());
  }
  return absl::OkStatus();
}

struct NameLess {
  bool operator()(const std::shared_ptr<const Policy>& a, std::string_view name) const {
    return a->name < name;
  }
  bool operator()(std::string_view name, const std::shared_ptr<const Policy>& a) const {
    return name < a->name;
  }
};

// The highest version that fits; null when there is none. Contents are equal under one digest, so
// which of their versions is taken does not matter to the mask.
std::shared_ptr<const Policy> FindIn(const PolicyList& policies, const PolicyReference& reference) {
  const auto [first, last] = std::equal_range(policies.begin(), policies.end(),
                                              std::string_view(reference.name), NameLess());
  for (auto it = last; it != first;) {
    --it;
    if (reference.Fits(**it)) return *it;
  }
  return nullptr;
}

void SortByNameAndVersion(PolicyList* policies) {
  std::sort(policies->begin(), policies->end(), [](const auto& a, const auto& b) {
    return std::tie(a->name, a->version, a->model) < std::tie(b->name, b->version, b->model);
  });
}

}  // namespace

PolicySnapshot::PolicySnapshot(const Digest& model, MaskShape shape)
    : model_(model), shape_(shape), none_(ExpertMask::None(shape)) {}

std::shared_ptr<const PolicySnapshot> PolicySnapshot::Empty(const Digest& model, MaskShape shape) {
  return std::shared_ptr<const PolicySnapshot>(new PolicySnapshot(model, shape));
}

absl::Status PolicySnapshot::Add(Policy policy) {
  if (policies_.size() + foreign_.size() == limits::kMaxPolicies) {
    return InvalidArgument("more than {} policies", limits::kMaxPolicies);
  }
  MONET_RETURN_IF_ERROR(history_.Add(policy));
  if (policy.model != model_) {
    policy.mask = nullptr;
    foreign_.push_back(std::make_shared<const Policy>(std::move(policy)));
    return absl::OkStatus();
  }
  const MaskShape& shape = policy.mask->shape();
  if (shape != shape_) {
    return InvalidArgument("{} routers and {} experts a side; the model has {} and {}",
                           shape.routers, shape.experts, shape_.routers, shape_.experts);
  }
  policies_.push_back(std::make_shared<const Policy>(std::move(policy)));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const PolicySnapshot>> PolicySnapshot::Load(
    const std::filesystem::path& directory, const Digest& model, MaskShape shape,
    const PolicySnapshot* previous) {
  std::shared_ptr<PolicySnapshot> snapshot(new PolicySnapshot(model, shape));
  if (previous != nullptr) snapshot->history_.Follow(previous->history_);
  auto folders = ListVisible(directory);
  if (!folders.ok()) {
    return InvalidArgument("policy directory: {}", Message(folders.status()));
  }
  for (const fs::path& folder : *folders) {
    const std::string name = folder.filename().string();
    std::error_code error;
    if (!IsPolicyName(name) || !fs::is_directory(folder, error)) {
      return InvalidArgument("{}: not a folder with a policy's name", name);
    }
    auto entries = ListVisible(folder);
    if (!entries.ok()) return InvalidArgument("{}: {}", name, Message(entries.status()));
    std::set<std::string> mask_names;
    for (const fs::path& entry : *entries) {
      if (!IsPolicyFile(entry)) continue;
      MONET_ASSIGN_OR_RETURN(PolicyFile file, ReadPolicyFile(entry));
      mask_names.insert(std::move(file.mask_name));
      const absl::Status added = snapshot->Add(std::move(file.policy));
      if (!added.ok()) {
        return InvalidArgument("{}/{}: {}", name, entry.filename().string(), Message(added));
      }
    }
    MONET_RETURN_IF_ERROR(CheckOtherEntries(*entries, mask_names));
  }
  SortByNameAndVersion(&snapshot->policies_);
  SortByNameAndVersion(&snapshot->foreign_);
  snapshot->history_.Finish();
  return snapshot;
}

absl::StatusOr<std::shared_ptr<const Policy>> PolicySnapshot::Find(std::string_view text) const {
  PolicyReference reference;
  if (!PolicyReference::Parse(text, &reference)) {
    return InvalidField(
        "policy is not a reference; write name, name@version or name@sha256:<64 hexadecimal "
        "digits>");
  }
  return Find(reference);
}

absl::StatusOr<std::shared_ptr<const Policy>> PolicySnapshot::Find(
    const PolicyReference& reference) const {
  if (auto policy = FindIn(policies_, reference)) return policy;
  if (FindIn(foreign_, reference)) {
    return Refuse(Reason::kPolicyModelMismatch, "policy {} belongs to another model",
                  reference.ToString());
  }
  return PolicyUnknown(reference.ToString());
}

absl::Status PolicyUnknown(std::string_view reference) {
  return Refuse(Reason::kPolicyUnknown, "policy {} is not known", reference);
}

PolicyRegistry::PolicyRegistry(std::shared_ptr<const PolicySnapshot> first)
    : current_(std::move(first)) {}

std::shared_ptr<const PolicySnapshot> PolicyRegistry::Current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

void PolicyRegistry::Swap(std::shared_ptr<const PolicySnapshot> next) {
  const std::lock_guard lock(mutex_);
  current_.swap(next);  // the old one is released after the lock
}

}  // namespace monet
