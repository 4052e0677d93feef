// What the server prints on stdout for the person who started it.
#pragma once

#include <string>

#include "server/serving_model.h"

namespace monet::server {

// The served model and three commands to paste. `monetctl` is how the command is called,
// `grpc_address` where to reach the server. Each line ends with a newline.
std::string Greeting(const ServingModel& model, const std::string& grpc_address,
                     const std::string& monetctl);

}  // namespace monet::server
