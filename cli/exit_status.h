// How the end of a command becomes an exit code and one line on standard error. Functions of the
// command line return absl::Status as everywhere else; a status made here carries its own exit
// code, every other error is bad local input.
//   0 done   1 the call failed   2 bad usage or local input   128 + n ended by signal n
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <utility>

#include "runtime/base/status.h"

namespace monet::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitCallFailed = 1;
inline constexpr int kExitBadInput = 2;

// `status` with exit code 1. REQUIRES: not OK.
absl::Status MarkCallFailed(absl::Status status);

// The status of a call: OK, or its code, reason and message with exit code 1.
absl::Status FromCall(const grpc::Status& status);

// The server answered, but not what its API promises.
template <typename... Args>
absl::Status BadAnswer(fmt::format_string<Args...> format, Args&&... args) {
  return MarkCallFailed(Error(absl::StatusCode::kInternal, "the server's answer is unusable: {}",
                              fmt::format(format, std::forward<Args>(args)...)));
}

// Ended by a signal (128 + its number).
absl::Status Interrupted(int signal);

// The reader of standard output has gone: ends without a message, as a filter does.
absl::Status BrokenPipe();

int ExitCode(const absl::Status& status);

// "monetctl: CODE (REASON): message", always one line, without the reason where the server gave
// none; empty when nothing is to be said.
std::string ErrorLine(const absl::Status& status);

}  // namespace monet::cli
