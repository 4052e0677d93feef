// A policy: a named, versioned, content-hashed expert mask for one model, and the strict parser of
// its file, name/version.yaml beside version.mask.
//
//   format: 1
//   name: no-insults        [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 bytes; the folder's name
//   version: 1              1 to 2^31-1; the file's name: 1.yaml, or 1.MODEL.yaml with the first 8
//                           or more digits of the model's fingerprint, so that policies of several
//                           models may have one name and version
//   description: one line   optional, at most 1,024 bytes, no control characters
//   model: sha256:…         fingerprint of the checkpoint that it was made for
//   semantics: zero         renormalise, mean: named, not implemented, refused
//   routers: 2              R
//   experts_per_side: 256   E
//   experts: {file: 1.mask, sha256: …}
//   experts: {inline: [{router: 0, ids: […], rows: […], columns: […]}]}   instead of a file
//   built: {…}              optional, free-form record of how it was made
//
// experts.file is the name of a file in the same folder: one zlib stream of the bitmap
// (expert_mask.h) and nothing after it; experts.sha256, 64 lower-case hexadecimal digits, is of the
// uncompressed bitmap. Unknown, missing and duplicate keys are errors, as is anything out of range
// (runtime/base/strict_yaml.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "runtime/policy/expert_mask.h"

namespace monet {

struct Policy {
  std::string name;
  int32_t version = 0;
  std::string description;
  std::string semantics;  // "zero"
  Digest model;           // fingerprint of the model it belongs to
  Digest digest;
  std::shared_ptr<const ExpertMask> mask;  // never null once parsed
};

bool IsPolicyName(std::string_view name);

// Parses the text of one policy file. `mask_file` holds the bytes of the file named by
// experts.file (empty when inline). Errors: INVALID_ARGUMENT naming the key and the line.
absl::StatusOr<Policy> ParsePolicy(std::string_view yaml, std::string_view mask_file);

// The `experts.file` of a policy text, so that a caller can read it; empty when inline. A plain
// name: no path separators, not hidden. Errors: as ParsePolicy.
absl::StatusOr<std::string> PolicyMaskFileName(std::string_view yaml);

// A policy and the bytes that it was parsed from.
struct PolicyFile {
  Policy policy;
  std::string yaml;
  std::string mask_name;  // of the file beside it; empty when inline
  std::string mask;       // that file's bytes
};

// Reads directory/name/version.yaml and the mask beside it; name, version and, where it is part of
// the file's name, the model must be those in the file. Links are followed.
// Errors: INVALID_ARGUMENT beginning with "name/version.yaml: ".
absl::StatusOr<PolicyFile> ReadPolicyFile(const std::filesystem::path& yaml_path);

// SHA-256 over "monet-policy-1\0", semantics, "\0", the 32 bytes of the model fingerprint, R and E
// (u32, little-endian), the uncompressed bitmap; not over the text.
Digest PolicyDigest(const Policy& policy);

}  // namespace monet
