// The set of policies that a server knows, as immutable snapshots, and the composition of a
// request's mask from them.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/policy/policy.h"
#include "runtime/policy/policy_reference.h"
#include "runtime/policy/version_history.h"

namespace monet {

// All policies of a directory at one moment. Immutable; shared by running requests.
class PolicySnapshot {
 public:
  // Reads every name/version.yaml below `directory`. Hidden entries are skipped and links followed,
  // so a mounted ConfigMap is fine, and so are files *.mask that no policy file names (a writer
  // that was interrupted leaves one); anything else that is neither a policy file nor the mask file
  // of one is an error, and one error refuses the whole directory. At most limits::kMaxPolicies
  // files. Policies of other models are remembered without their masks, so that naming one gives
  // FAILED_PRECONDITION instead of NOT_FOUND; those of this model must have its shape.
  // Errors: INVALID_ARGUMENT naming the entry relative to the directory.
  // Versions never change their content: with `previous`, the snapshot that this one is to replace,
  // a (name, version, model) that had another digest there, or in one that it replaced in turn, is
  // an error (version_history.h).
  static absl::StatusOr<std::shared_ptr<const PolicySnapshot>> Load(
      const std::filesystem::path& directory, const Digest& model, MaskShape shape,
      const PolicySnapshot* previous = nullptr);
  static std::shared_ptr<const PolicySnapshot> Empty(const Digest& model, MaskShape shape);

  // Reference: `name` (highest version), `name@version` or `name@sha256:…`.
  // Errors: INVALID_ARGUMENT (malformed), NOT_FOUND, FAILED_PRECONDITION (only for another model).
  // Refusals (runtime/base/reasons.h) that name the field "policy".
  absl::StatusOr<std::shared_ptr<const Policy>> Find(std::string_view reference) const;
  // The same for one that is parsed.
  absl::StatusOr<std::shared_ptr<const Policy>> Find(const PolicyReference& reference) const;

  // This model's policies, ordered by name, then version.
  const std::vector<std::shared_ptr<const Policy>>& policies() const { return policies_; }
  // Those of other models, ordered alike; their masks are null.
  const std::vector<std::shared_ptr<const Policy>>& foreign() const { return foreign_; }
  const Digest& model() const { return model_; }
  const MaskShape& shape() const { return shape_; }
  // The mask that removes nothing, made once.
  const std::shared_ptr<const ExpertMask>& none() const { return none_; }

 private:
  PolicySnapshot(const Digest& model, MaskShape shape);
  absl::Status Add(Policy policy);

  Digest model_;
  MaskShape shape_;
  std::shared_ptr<const ExpertMask> none_;
  std::vector<std::shared_ptr<const Policy>> policies_;  // by name, then version
  std::vector<std::shared_ptr<const Policy>> foreign_;   // of other models; masks dropped
  VersionHistory history_;
};

// What Find says of a reference that it does not have; for callers that hide a policy, too.
absl::Status PolicyUnknown(std::string_view reference);

// Explicit removals of a request, per router group. Vectors may be unsorted and hold duplicates.
struct ExplicitExperts {
  int32_t router = 0;
  std::vector<int64_t> ids;      // i·E + j
  std::vector<int64_t> rows;     // i
  std::vector<int64_t> columns;  // j
  std::vector<uint8_t> bitmap;   // empty or ⌈E²/8⌉ bytes
};

// What a request's mask became.
struct ResolvedMask {
  std::shared_ptr<const ExpertMask> mask;               // never null; may remove nothing
  std::vector<std::shared_ptr<const Policy>> policies;  // applied, by name then version, unique
};

// Unites `mandatory` policies, policies by reference and explicit experts; neither order nor
// repetition matters. Mandatory ones are not the request's: they do not count towards its limits.
// Errors begin with the request field and a colon, e.g. "mask.policies[1]: " or
// "mask.experts[0].rows[3]: ": those of Find, and INVALID_ARGUMENT for experts outside the model's
// shape and for more entries than limits.h says.
absl::StatusOr<ResolvedMask> ResolveMask(const PolicySnapshot& snapshot,
                                         const std::vector<std::string>& references,
                                         const std::vector<ExplicitExperts>& experts,
                                         std::vector<std::shared_ptr<const Policy>> mandatory = {});

// Holds the current snapshot. Thread-safe; readers keep what they got.
class PolicyRegistry {
 public:
  explicit PolicyRegistry(std::shared_ptr<const PolicySnapshot> first);
  std::shared_ptr<const PolicySnapshot> Current() const;
  void Swap(std::shared_ptr<const PolicySnapshot> next);

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const PolicySnapshot> current_;
};

}  // namespace monet
