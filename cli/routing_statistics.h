// The file of monetctl policy collect: sums of routing weights by label, half and expert, and which
// documents are in them. A safetensors file; integers only, so that the same documents give the
// same bytes in whatever order, at whatever pace.
//
//   about            U8    JSON: format, model, labels, counts, whether it is complete
//   weights, means, mean_squares   U64 [L, 2, R, E²]   units: runtime/policy/routing_sums.h
//   active           U32 [L, 2, R, E²]
//   squares (U64), products (I64)  [L, 2, R, E²], of scored data
//   documents        U8 [N, 32]  SHA-256 of the texts, by label, then hash
//   document_labels  I32 [N]     index of the label
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "runtime/policy/routing_sums.h"

namespace monet::cli {

struct RoutingStatistics {
  std::string model;   // "sha256:…" fingerprint
  std::string system;  // system_fingerprint of the server
  std::vector<std::string> labels;
  int64_t max_tokens = 0;  // a label takes no more documents from so many tokens on; 0: all
  bool complete = false;
  RoutingSums sums;
  std::set<std::pair<int32_t, Digest>> documents;  // (label, hash)

  // Of both halves.
  int64_t tokens(int32_t label) const {
    return sums.totals(label, 0).tokens + sums.totals(label, 1).tokens;
  }
  int64_t document_count(int32_t label) const {
    return sums.totals(label, 0).documents + sums.totals(label, 1).documents;
  }
};

// Errors: INVALID_ARGUMENT naming --labels' count and the limit when labels × experts is more than
// limits::kMaxCollectedExperts. To be asked before a RoutingSums is made.
absl::Status CheckCollectedExperts(MaskShape shape, size_t labels);

// Replaces the file when all is written. Errors: as WriteSafetensors.
absl::Status WriteStatistics(const RoutingStatistics& statistics,
                             const std::filesystem::path& path);

// Errors: INVALID_ARGUMENT, NOT_FOUND beginning with the path.
absl::StatusOr<RoutingStatistics> ReadStatistics(const std::filesystem::path& path);

}  // namespace monet::cli
