#include "runtime/base/reasons.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/cord.h"
#include "runtime/base/check.h"

namespace monet {
namespace {

using Code = absl::StatusCode;
using std::chrono::milliseconds;

constexpr char kReasonPayload[] = "monet/reason";
constexpr char kFieldPayload[] = "monet/field";
constexpr char kRetryPayload[] = "monet/retry_ms";

constexpr milliseconds kNever{0};
// A queue moves on within steps; a start or the replacement of a server takes longer.
constexpr milliseconds kQueueRetry{500};
constexpr milliseconds kRestartRetry{2000};

constexpr milliseconds kLeastRateRetry{1};
constexpr milliseconds kConcurrencyRetry{500};

constexpr std::array kReasons = {
    ReasonInfo{Reason::kUnauthenticated, "UNAUTHENTICATED", Code::kUnauthenticated, false, kNever,
               "The call carries no credentials of a tenant of this server, or wrong ones.",
               "Send the metadata authorization: Bearer KEY with a valid key, or use the tenant's "
               "client certificate."},
    ReasonInfo{Reason::kInvalidMessage, "INVALID_MESSAGE", Code::kInvalidArgument, false, kNever,
               "The bytes of the request are not a message of the method's type.",
               "Use the generated client of this API's proto files."},
    ReasonInfo{Reason::kInvalidField, "INVALID_FIELD", Code::kInvalidArgument, true, kNever,
               "A field is missing, out of its range or malformed.",
               "Correct the field; the text says its limit."},
    ReasonInfo{Reason::kUnsupportedField, "UNSUPPORTED_FIELD", Code::kInvalidArgument, true, kNever,
               "This server does not implement the field, does not know it, or is not configured "
               "for it.",
               "Leave the field out, give the value that the text names, or ask a newer server."},
    ReasonInfo{
        Reason::kContextTooLong, "CONTEXT_TOO_LONG", Code::kInvalidArgument, true, kNever,
        "The prompt, or the prompt and max_tokens together, exceed the model's context.",
        "Shorten the prompt, lower stopping.max_tokens or let prompt.truncation cut the prompt."},
    ReasonInfo{Reason::kModelUnknown, "MODEL_UNKNOWN", Code::kNotFound, true, kNever,
               "The request names a model that this server does not serve.",
               "Leave the name out or take it from GetModel."},
    ReasonInfo{Reason::kPolicyUnknown, "POLICY_UNKNOWN", Code::kNotFound, true, kNever,
               "No such policy, version or digest is there for the caller.",
               "Take a reference from ListPolicies."},
    ReasonInfo{Reason::kPolicyModelMismatch, "POLICY_MODEL_MISMATCH", Code::kFailedPrecondition,
               true, kNever, "The policy was made for another model.",
               "Name a policy of the served model: see ListPolicies."},
    ReasonInfo{Reason::kPolicyUnavailable, "POLICY_UNAVAILABLE", Code::kFailedPrecondition, false,
               kNever,
               "A policy that is mandatory for the caller cannot be had, and nothing runs without "
               "it.",
               "Ask the server's operator."},
    ReasonInfo{Reason::kMaskNotAllowed, "MASK_NOT_ALLOWED", Code::kPermissionDenied, true, kNever,
               "The caller may not give explicit experts.",
               "Name a policy that ListPolicies shows, or ask the server's operator."},
    ReasonInfo{Reason::kLimitExceeded, "LIMIT_EXCEEDED", Code::kInvalidArgument, true, kNever,
               "The field asks for more than the caller's tenant may have in one call.",
               "Ask for less; the text says the limit."},
    ReasonInfo{Reason::kRateLimited, "RATE_LIMITED", Code::kResourceExhausted, false,
               kLeastRateRetry,
               "The caller's tenant has used up its requests or tokens for now; the delay is the "
               "time until there is enough again.",
               "Retry after the delay."},
    ReasonInfo{Reason::kConcurrencyLimited, "CONCURRENCY_LIMITED", Code::kResourceExhausted, false,
               kConcurrencyRetry,
               "The caller's tenant has as many calls, or calls with different masks, running as "
               "it may.",
               "Wait for one of them to end, or retry with growing, random delays."},
    ReasonInfo{Reason::kTooLarge, "TOO_LARGE", Code::kResourceExhausted, false, kNever,
               "The request needs, or its response is, more than this server's limits allow.",
               "Ask for less at a time."},
    ReasonInfo{Reason::kQueueFull, "QUEUE_FULL", Code::kResourceExhausted, false, kQueueRetry,
               "As many requests wait as the server lets wait.",
               "Retry with growing, random delays, or send to another server."},
    ReasonInfo{Reason::kLoading, "LOADING", Code::kUnavailable, false, kRestartRetry,
               "The server is starting and has not loaded its model yet.",
               "Retry with growing, random delays, or send to another server."},
    ReasonInfo{Reason::kDraining, "DRAINING", Code::kUnavailable, false, kRestartRetry,
               "The server is stopping: it takes nothing new, and ends what outlasts its drain "
               "timeout.",
               "Send to another server, or retry once this one is replaced; what was streamed so "
               "far was right, and a new call starts anew."},
    ReasonInfo{Reason::kDeadlineExceeded, "DEADLINE_EXCEEDED", Code::kDeadlineExceeded, false,
               kNever, "The call's deadline passed before its end.",
               "Give more time or ask for fewer tokens."},
    ReasonInfo{Reason::kCancelled, "CANCELLED", Code::kCancelled, false, kNever,
               "The caller cancelled the call or its connection ended.", "Nothing."},
    ReasonInfo{Reason::kInternal, "INTERNAL", Code::kInternal, false, kNever,
               "The server failed; the cause is in its log and nowhere else.",
               "Report it to the server's operator."},
};

constexpr bool InOrder() {
  for (size_t i = 0; i < kReasons.size(); ++i) {
    if (kReasons[i].reason != static_cast<Reason>(i)) return false;
  }
  return kReasons.size() == static_cast<size_t>(Reason::kInternal) + 1;
}
static_assert(InOrder());

Reason ReasonOfCode(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kOutOfRange:
      return Reason::kInvalidField;
    case Code::kResourceExhausted:
      return Reason::kTooLarge;
    case Code::kUnavailable:
      return Reason::kDraining;
    case Code::kDeadlineExceeded:
      return Reason::kDeadlineExceeded;
    case Code::kCancelled:
      return Reason::kCancelled;
    default:
      return Reason::kInternal;
  }
}

absl::Status WithField(absl::Status status, const std::string& field) {
  status.SetPayload(kFieldPayload, absl::Cord(field));
  return status;
}

}  // namespace

std::span<const ReasonInfo> Reasons() { return kReasons; }

const ReasonInfo& InfoOf(Reason reason) { return kReasons[static_cast<size_t>(reason)]; }

const ReasonInfo& ReasonOf(const absl::Status& status) {
  MONET_CHECK(!status.ok());
  if (const auto payload = status.GetPayload(kReasonPayload)) {
    for (const ReasonInfo& info : kReasons) {
      if (*payload == info.name) return info;
    }
  }
  return InfoOf(ReasonOfCode(status.code()));
}

std::string FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kFieldPayload);
  return payload ? std::string(*payload) : std::string();
}

absl::Status MakeRefusal(Reason reason, std::string message) {
  const ReasonInfo& info = InfoOf(reason);
  std::string field;
  if (info.names_field) {
    field = message.substr(0, message.find(' '));
    if (field.ends_with(':')) field.pop_back();
  }
  absl::Status status(info.code, message);
  status.SetPayload(kReasonPayload, absl::Cord(info.name));
  return field.empty() ? status : WithField(std::move(status), field);
}

absl::Status RefuseFor(std::chrono::nanoseconds delay, Reason reason, std::string message) {
  const ReasonInfo& info = InfoOf(reason);
  MONET_CHECK(info.retry_after.count() > 0 && !info.names_field);
  absl::Status status = MakeRefusal(reason, std::move(message));
  const milliseconds wait = std::max(info.retry_after, std::chrono::ceil<milliseconds>(delay));
  status.SetPayload(kRetryPayload, absl::Cord(std::to_string(wait.count())));
  return status;
}

milliseconds RetryAfterOf(const absl::Status& status) {
  if (const auto payload = status.GetPayload(kRetryPayload)) {
    return milliseconds(std::stoll(std::string(*payload)));
  }
  return ReasonOf(status).retry_after;
}

absl::Status AtField(const std::string& field, const absl::Status& status) {
  if (status.ok()) return status;
  return MakeRefusal(ReasonOf(status).reason, fmt::format("{}: {}", field, Message(status)));
}

}  // namespace monet
