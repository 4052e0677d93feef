// Where a policy of a command comes from: its file, or a server that has it.
#pragma once

#include <filesystem>
#include <string>

#include "cli/connection.h"
#include "runtime/base/status.h"
#include "runtime/policy/policy.h"

namespace monet::cli {

// Whether an argument is a path rather than a reference: it has a slash or ends with .yaml.
bool IsPolicyPath(const std::string& text);

// Reads a policy file. Errors: INVALID_ARGUMENT beginning with the path.
absl::StatusOr<PolicyFile> ReadPolicyAt(const std::filesystem::path& path);

// Asks the server for the policy with its bitmap, and checks that the bitmap has the digests that
// the server names. Errors: those of the call; BadAnswer.
absl::StatusOr<Policy> FetchPolicy(const std::string& reference, Connection* connection);

// "3061 experts (2.34 %)"
std::string RemovedText(int64_t removed, int64_t total);

}  // namespace monet::cli
