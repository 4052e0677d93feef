#include "server/error_details.h"

#include <spdlog/spdlog.h>

#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "runtime/base/reasons.h"

namespace monet::server {
namespace {

void AddRetry(std::chrono::milliseconds after, google::rpc::Status* out) {
  google::rpc::RetryInfo retry;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(after);
  retry.mutable_retry_delay()->set_seconds(seconds.count());
  retry.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(std::chrono::nanoseconds(after - seconds).count()));
  out->add_details()->PackFrom(retry);
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const ReasonInfo& info = ReasonOf(status);
  std::string text = Message(status);
  if (info.reason == Reason::kInternal) {
    spdlog::error("internal error: {}", text);
    text = "internal error; see the server's log";
  }
  // The two enumerations have the same numbers.
  const auto code = static_cast<grpc::StatusCode>(info.code);
  google::rpc::Status details;
  details.set_code(static_cast<int32_t>(code));
  details.set_message(text);
  google::rpc::ErrorInfo error;
  error.set_reason(info.name);
  error.set_domain(kErrorDomain);
  details.add_details()->PackFrom(error);
  if (const std::string field = FieldOf(status); !field.empty()) {
    google::rpc::BadRequest bad;
    google::rpc::BadRequest::FieldViolation* violation = bad.add_field_violations();
    violation->set_field(field);
    violation->set_description(text);
    details.add_details()->PackFrom(bad);
  }
  if (const auto delay = RetryAfterOf(status); delay.count() > 0) AddRetry(delay, &details);
  return grpc::Status(code, text, details.SerializeAsString());
}

const char* CodeName(const absl::Status& status) {
  if (status.ok()) return "OK";
  switch (ReasonOf(status).code) {
    case absl::StatusCode::kCancelled:
      return "CANCELLED";
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case absl::StatusCode::kNotFound:
      return "NOT_FOUND";
    case absl::StatusCode::kPermissionDenied:
      return "PERMISSION_DENIED";
    case absl::StatusCode::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case absl::StatusCode::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case absl::StatusCode::kUnavailable:
      return "UNAVAILABLE";
    case absl::StatusCode::kUnauthenticated:
      return "UNAUTHENTICATED";
    default:
      return "INTERNAL";
  }
}

}  // namespace monet::server
