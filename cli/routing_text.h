// The active experts of a token as lines for people.
#pragma once

#include <string>

#include "monet/v1/routing.pb.h"

namespace monet::cli {

// "  r0  12 active, weight 0.2500 removed\n" and a line "    r0/3/7  0.1250  removed\n" for each
// expert that was asked for.
std::string RoutingText(const v1::TokenActivation& activation);

}  // namespace monet::cli
