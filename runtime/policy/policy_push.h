// Puts a policy into a policy directory that servers may be watching.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/base/status.h"
#include "runtime/policy/policy.h"

namespace monet {

enum class PushResult : uint8_t {
  kWritten,
  kUnchanged,  // the version is there with the same digest; nothing was written
};

// Writes the mask, then the policy file, each under another name first and then renamed
// (runtime/base/replace_file.h): whoever reads the directory at any moment, or after this process
// was killed, finds the policy whole or not at all. `file_name` is that of the policy file in its
// folder. One push into a directory at a time: a second one is refused (flock). Errors:
// INVALID_ARGUMENT when the version is there with another digest, when a file of either name
// belongs to another policy, or when a policy file of the folder cannot be read; INTERNAL when the
// system refuses. They name entries relative to the directory.
absl::StatusOr<PushResult> PushPolicy(const PolicyFile& file, const std::string& file_name,
                                      const std::filesystem::path& directory);

}  // namespace monet
