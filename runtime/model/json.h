// Strict, bounded JSON: what config.json, the shard index and safetensors headers are read with.
// Private to runtime/model. Never throws.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "runtime/base/status.h"

namespace monet {

struct JsonLimits {
  size_t max_depth = 16;          // nested arrays and objects
  size_t max_values = 1'000'000;  // members and elements altogether; bounds the memory of the tree
};

// An object as the outermost value, nothing behind it. Errors: INVALID_ARGUMENT that begins with
// `what` (e.g. "config.json") for a syntax error, a string that is not UTF-8, a number out of a
// double's range, a duplicate key, and anything beyond the limits.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view what,
                                               const JsonLimits& limits);

// A key or value for an error message: at most 64 bytes, printable ASCII.
std::string Printable(std::string_view text);

}  // namespace monet
