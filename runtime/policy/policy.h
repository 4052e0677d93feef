// A policy: a named, versioned, content-hashed expert mask for one model, and the strict parser of
// its file (name/version.yaml beside version.mask).
//
//   format: 1
//   name: no-insults                # [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63 bytes; equals the
//   folder version: 1                      # 1..2^31-1; equals the file's name description: one
//   line           # optional model: sha256:…                 # fingerprint of the checkpoint it
//   was made for semantics: zero                 # renormalise, mean: named, not implemented,
//   refused routers: 2                      # R experts_per_side: 256           # E experts:
//   {file: 1.mask, sha256: …}   # zlib stream; sha256 of the uncompressed bitmap; or inline:
//   experts: {inline: [{router: 0, ids: [..], rows: [..], columns: [..]}]}
//   built: {…}                      # optional, free-form record of how it was made
//
// Unknown and duplicate keys are errors, as is anything out of range. Digest: SHA-256 over
// "monet-policy-1\0", semantics, "\0", the 32 bytes of the model fingerprint, R and E (u32,
// little-endian), the uncompressed bitmap; not over the text.
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
  std::shared_ptr<const ExpertMask> mask;
};

bool IsPolicyName(std::string_view name);

// Parses the text of one policy file. `mask_file` holds the bytes of the file named by
// experts.file (empty when inline). Errors: INVALID_ARGUMENT naming the key and the line.
absl::StatusOr<Policy> ParsePolicy(std::string_view yaml, std::string_view mask_file);

// The `experts.file` of a policy text, so that a caller can read it; empty when inline.
absl::StatusOr<std::string> PolicyMaskFileName(std::string_view yaml);

// Reads directory/name/version.yaml and the mask beside it. Errors name the file.
absl::StatusOr<Policy> ReadPolicyFile(const std::filesystem::path& yaml_path);

Digest PolicyDigest(const Policy& policy);

}  // namespace monet
