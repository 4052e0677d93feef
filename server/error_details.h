// google.rpc's error details on the wire: what a refusal carries beside code and text, in the
// trailing metadata grpc-status-details-bin. docs/errors.md describes them.
#pragma once

#include <grpcpp/support/status.h>

#include "runtime/base/status.h"

namespace monet::server {

// OK, or code and text with ErrorInfo, BadRequest and RetryInfo as the reason has them. Internal
// errors are logged and reach the client without their text.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The name of the code that ToGrpcStatus gives: "OK", "NOT_FOUND"…
const char* CodeName(const absl::Status& status);

}  // namespace monet::server
