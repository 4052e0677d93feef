// Text from files and standard input, as it is: nothing trimmed, nothing converted.
#pragma once

#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace monet::cli {

// Largest file that the command reads whole; a server's own limits are lower.
inline constexpr size_t kMaxInputBytes = 64 << 20;

// The bytes of a file, or of standard input when `path` is "-". Errors: NOT_FOUND, INVALID_ARGUMENT
// (not a readable file, more than kMaxInputBytes).
absl::StatusOr<std::string> ReadInput(const std::string& path);

// Errors: INVALID_ARGUMENT naming `field` and the first byte that is not UTF-8.
absl::Status RequireUtf8(std::string_view field, std::string_view text);

}  // namespace monet::cli
