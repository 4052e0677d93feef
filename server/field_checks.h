// Checks that fields of several requests share. Errors: refusals that name the field.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/status.h"

namespace monet::server {

// Text of a caller inside an error: short, and only what can be printed.
std::string Shown(const std::string& text);

// [0, vocabulary); the field is "FIELD[index]".
absl::Status CheckTokenId(const char* field, int index, int32_t id, int32_t vocabulary);

// UTF-8 of at most limits::kMaxPromptBytes.
absl::Status CheckText(const std::string& field, const std::string& text);

}  // namespace monet::server
