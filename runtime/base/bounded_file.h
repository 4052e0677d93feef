// Small files that people write, read whole.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "runtime/base/status.h"

namespace monet {

// The bytes of a regular file (links are followed). Errors: INVALID_ARGUMENT, without the path,
// when there is none, it is larger than max_bytes or cannot be read.
absl::StatusOr<std::string> ReadBoundedFile(const std::filesystem::path& path, size_t max_bytes);

}  // namespace monet
