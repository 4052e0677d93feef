// The compressed bitmap beside a policy file: one zlib stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace monet {

// Inflates exactly `bytes` bytes. Never allocates more than bytes + 1 for the result, whatever the
// stream expands to. Errors: INVALID_ARGUMENT when it gives fewer or more, is cut short, or is
// followed by anything.
absl::StatusOr<std::vector<uint8_t>> InflateMask(std::string_view compressed, size_t bytes);

// The stream of these bytes; the same ones for the same bytes and version of zlib.
std::string DeflateMask(std::span<const uint8_t> bitmap);

}  // namespace monet
