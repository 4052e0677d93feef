#include "cli/exit_status.h"

#include <csignal>

#include "absl/strings/cord.h"

namespace monet::cli {
namespace {

constexpr char kPayload[] = "monetctl/exit-code";

absl::Status WithExitCode(absl::Status status, int code) {
  status.SetPayload(kPayload, absl::Cord(std::to_string(code)));
  return status;
}

// A server's message goes to a terminal: no line breaks, no escape sequences.
std::string OneLine(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

}  // namespace

absl::Status MarkCallFailed(absl::Status status) {
  return WithExitCode(std::move(status), kExitCallFailed);
}

absl::Status FromCall(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // The codes of the two are the same numbers.
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  return MarkCallFailed(Error(code, "{}", status.error_message()));
}

absl::Status Interrupted(int signal) {
  return WithExitCode(Error(absl::StatusCode::kCancelled, "interrupted"), 128 + signal);
}

absl::Status BrokenPipe() {
  return WithExitCode(Error(absl::StatusCode::kCancelled, "broken pipe"), 128 + SIGPIPE);
}

int ExitCode(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  const auto payload = status.GetPayload(kPayload);
  if (!payload.has_value()) return kExitBadInput;
  return std::stoi(std::string(*payload));
}

std::string ErrorLine(const absl::Status& status) {
  if (status.ok() || ExitCode(status) == 128 + SIGPIPE) return "";
  return fmt::format("monetctl: {}: {}", absl::StatusCodeToString(status.code()),
                     OneLine(Message(status)));
}

}  // namespace monet::cli
