// Text on a terminal in the colour of its probability.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

#include "cli/console.h"
#include "runtime/base/status.h"

namespace monet::cli {

// --color auto, always or never.
class ColorArgument {
 public:
  explicit ColorArgument(CLI::App* app);
  // With auto: whether standard output is a terminal that shows colours, and NO_COLOR is not set.
  absl::StatusOr<bool> Read(const Console& console) const;

 private:
  CLI::Option* color_;
};

// `text` in the colour of a token with this natural-log probability; green is probable, red is not.
std::string Paint(std::string_view text, double logprob);

}  // namespace monet::cli
