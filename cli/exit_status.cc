#include "cli/exit_status.h"

#include <csignal>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace monet::cli {
namespace {

constexpr char kPayload[] = "monetctl/exit-code";
constexpr char kReasonPayload[] = "monetctl/reason";

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

// The reason of google.rpc.ErrorInfo; empty when the status has none.
std::string ReasonIn(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return "";
  google::rpc::ErrorInfo info;
  for (const google::protobuf::Any& detail : details.details()) {
    if (detail.UnpackTo(&info)) return info.reason();
  }
  return "";
}

}  // namespace

absl::Status MarkCallFailed(absl::Status status) {
  return WithExitCode(std::move(status), kExitCallFailed);
}

absl::Status FromCall(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // The codes of the two are the same numbers.
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  absl::Status result = Error(code, "{}", status.error_message());
  const std::string reason = ReasonIn(status);
  if (!reason.empty()) result.SetPayload(kReasonPayload, absl::Cord(reason));
  return MarkCallFailed(std::move(result));
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
  std::string code = absl::StatusCodeToString(status.code());
  const auto reason = status.GetPayload(kReasonPayload);
  // Where the reason says no more than the code, once is enough.
  if (reason && *reason != code) code += fmt::format(" ({})", OneLine(std::string(*reason)));
  return fmt::format("monetctl: {}: {}", code, OneLine(Message(status)));
}

}  // namespace monet::cli
