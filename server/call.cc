#include "server/call.h"

#include <spdlog/spdlog.h>

namespace monet::server {

const char* RejectionReason(const absl::Status& status) {
  if (status.ok()) return nullptr;
  const ReasonInfo& info = ReasonOf(status);
  switch (info.code) {
    case absl::StatusCode::kResourceExhausted:
      return info.reason == Reason::kRateLimited          ? "rate_limited"
             : info.reason == Reason::kConcurrencyLimited ? "concurrency_limited"
                                                          : "queue_full";
    case absl::StatusCode::kUnavailable:
      return info.reason == Reason::kLoading ? "loading" : "draining";
    case absl::StatusCode::kInvalidArgument:
      return "invalid_argument";
    case absl::StatusCode::kNotFound:
      return "not_found";
    case absl::StatusCode::kFailedPrecondition:
      return "failed_precondition";
    case absl::StatusCode::kPermissionDenied:
      return "permission_denied";
    case absl::StatusCode::kUnauthenticated:
      return "unauthenticated";
    default:
      return nullptr;
  }
}

Clock::time_point DeadlineOf(const grpc::ServerContextBase& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return Clock::time_point::max();
  const auto left = deadline - std::chrono::system_clock::now();
  if (left > std::chrono::hours(24 * 365)) return Clock::time_point::max();
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(left);
}

UnaryCall* UnaryCall::Start(const ServiceContext& service, const char* method,
                            grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                            grpc::ByteBuffer* response, Work work) {
  auto* call = new UnaryCall(service, method);
  call->Begin(context, request, response, std::move(work));
  return call;
}

void UnaryCall::Begin(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request,
                      grpc::ByteBuffer* response, Work work) {
  auto pass = service_.admission->Enter();
  if (!pass.ok()) return End(pass.status());
  pass_ = *std::move(pass);
  if (const absl::Status status = account_.Enter(*context); !status.ok()) return End(status);
  const bool queued = service_.ingress->TrySubmit(
      request->Length(),
      [this, request, response, work = std::move(work)] {
        End(work(*pass_.model(), account_.identity(), *request, response));
      },
      account_.tenant_name());
  if (!queued) End(Refuse(Reason::kQueueFull, "too many requests at once"));
}

void UnaryCall::End(const absl::Status& status) {
  service_.metrics->CountCall(method_, CodeName(status));
  spdlog::debug("{} {} tenant={}", method_, CodeName(status), account_.tenant_name());
  account_.Finish(status);
  Finish(ToGrpcStatus(status));
}

}  // namespace monet::server
