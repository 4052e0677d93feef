// Which content a version of a policy had, so that it never gets another one. A version is of a
// name and a model: policies of several models may share names and numbers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "runtime/policy/policy.h"

namespace monet {

// Value type. Knows the versions that are there and, at most limits::kMaxRetiredVersions, those
// that went away; of more the first that went are forgotten.
class VersionHistory {
 public:
  // Takes over what `previous` knows: its versions retire unless they are added again.
  // REQUIRES: called before Add.
  void Follow(const VersionHistory& previous);
  // Errors: INVALID_ARGUMENT when the version is there already or had another digest before.
  absl::Status Add(const Policy& policy);
  // Forgets what is too much. Call it after the last Add.
  void Finish();

  size_t retired() const { return retired_.size(); }

 private:
  struct Key {
    std::string name;
    int32_t version = 0;
    Digest model;
    auto operator<=>(const Key&) const = default;
  };
  struct Retired {
    Digest digest;
    uint64_t order = 0;  // the lower, the earlier it went away
  };

  std::map<Key, Digest> present_;
  std::map<Key, Retired> retired_;
  uint64_t next_order_ = 0;
};

}  // namespace monet
