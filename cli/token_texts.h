// The text of single tokens, as they stand inside a text.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cli/connection.h"
#include "runtime/base/status.h"

namespace monet::cli {

// Consecutive tokens that make whole characters: most often one, several where a character has a
// token a byte.
struct TokenText {
  size_t tokens = 0;
  std::string text;
};

// The texts of `ids` in order, asked of the server by Detokenize: one call for each token that has
// not come before. Errors: exit code 1.
absl::StatusOr<std::vector<TokenText>> TokenTexts(std::span<const int32_t> ids,
                                                  Connection* connection);

}  // namespace monet::cli
