// What the server prints on stdout for the person who started it.
#pragma once

#include <string>

#include "server/options.h"
#include "server/serving_model.h"

namespace monet::server {

// The loaded model, the machine's share and the number of policies. Each line ends with a newline.
std::string Summary(const ServingModel& model);

// The policies by name and version, with what each removes; a line each. Empty: there are none.
std::string PolicyList(const PolicySnapshot& snapshot);

// The summary and three commands to paste, with the flags that callers of a server with `options`
// need; where these name a file of the caller's own, that is in capitals. `monetctl` is how the
// command is called, `grpc_address` where to reach the server. Each line ends with a newline.
std::string Greeting(const ServingModel& model, const ServerOptions& options,
                     const std::string& grpc_address, const std::string& monetctl);

}  // namespace monet::server
