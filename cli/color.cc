#include "cli/color.h"

#include <cmath>
#include <cstdlib>

#include "cli/options.h"

namespace monet::cli {
namespace {

// Numbers of the palette of 256 colours that terminals agree on.
struct Shade {
  double least_probability;
  int color;
};
constexpr Shade kShades[] = {{0.8, 34}, {0.5, 148}, {0.2, 220}, {0.05, 208}, {0, 196}};

bool IsSet(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0';
}

}  // namespace

ColorArgument::ColorArgument(CLI::App* app) {
  color_ = AddValue(app, "--color", "WHEN",
                    "With --logprobs, without --json: text in the colour of its probability,\n"
                    "green from 0.8, then 0.5, 0.2, 0.05, red below. auto (on a terminal,\n"
                    "unless NO_COLOR is set), always or never. Default: auto");
}

absl::StatusOr<bool> ColorArgument::Read(const Console& console) const {
  MONET_ASSIGN_OR_RETURN(const auto when, TextOf(color_));
  if (when == "always") return true;
  if (when == "never") return false;
  if (when && when != "auto") {
    return InvalidArgument("--color is '{}', must be auto, always or never", *when);
  }
  const char* terminal = std::getenv("TERM");
  const bool is_dumb = terminal != nullptr && std::string_view(terminal) == "dumb";
  return console.stdout_is_terminal() && !is_dumb && !IsSet("NO_COLOR");
}

std::string Paint(std::string_view text, double logprob) {
  const double probability = std::exp(logprob);
  int color = kShades[std::size(kShades) - 1].color;
  for (const Shade& shade : kShades) {
    if (probability < shade.least_probability) continue;
    color = shade.color;
    break;
  }
  return fmt::format("\033[38;5;{}m{}\033[0m", color, text);
}

}  // namespace monet::cli
