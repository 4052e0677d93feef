#include "cli/routing_text.h"

#include <fmt/format.h>

namespace monet::cli {

std::string RoutingText(const v1::TokenActivation& activation) {
  std::string text =
      fmt::format("  r{}  {} active", activation.router(), activation.active_experts());
  if (activation.removed_weight() > 0) {
    text += fmt::format(", weight {:.4f} removed", activation.removed_weight());
  }
  text += '\n';
  for (const v1::ExpertActivation& expert : activation.experts()) {
    const std::string name = fmt::format("r{}/{}/{}", activation.router(), expert.i(), expert.j());
    text += fmt::format("    {:<14} {:.4f}{}\n", name, expert.weight(),
                        expert.removed() ? "  removed" : "");
  }
  return text;
}

}  // namespace monet::cli
