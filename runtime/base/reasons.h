// Why a request was refused or ended: the one table of stable reasons behind every error that a
// client can see. A refusal is an absl::Status that carries its reason, and the path of the field
// where one is to blame, as payloads; the server turns them into google.rpc's error details, and
// docs/errors.md is written from the table.
//
// Reasons are part of the API: one may be added, none renamed or given another code.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "runtime/base/status.h"

namespace monet {

inline constexpr char kErrorDomain[] = "monet";  // of google.rpc.ErrorInfo

enum class Reason : uint8_t {
  kUnauthenticated,
  kInvalidMessage,
  kInvalidField,
  kUnsupportedField,
  kContextTooLong,
  kModelUnknown,
  kPolicyUnknown,
  kPolicyModelMismatch,
  kPolicyUnavailable,
  kMaskNotAllowed,
  kLimitExceeded,
  kRateLimited,
  kConcurrencyLimited,
  kTooLarge,
  kQueueFull,
  kLoading,
  kDraining,
  kDeadlineExceeded,
  kCancelled,
  kInternal,
};

struct ReasonInfo {
  Reason reason;
  const char* name;  // as clients see it
  absl::StatusCode code;
  bool names_field;  // the message starts with the field's path
  // 0: the same request fails again. Of kRateLimited the least; each refusal says its own.
  std::chrono::milliseconds retry_after;
  const char* meaning;  // one sentence
  const char* remedy;   // what the caller can do; one sentence
};

// All of them in the order of the enumeration.
std::span<const ReasonInfo> Reasons();
const ReasonInfo& InfoOf(Reason reason);

// The reason of an error: its own, or for a status made without one the reason that its code stands
// for. REQUIRES: not OK.
const ReasonInfo& ReasonOf(const absl::Status& status);

// The path of the field to blame ("mask.policies[0]"); empty when the reason names none.
std::string FieldOf(const absl::Status& status);

absl::Status MakeRefusal(Reason reason, std::string message);

// Refuse(Reason::kInvalidField, "stopping.stop[{}] is empty", i): a status with the reason's code.
// When the reason names a field, the message must start with the field's path; the path ends before
// the first space or ": ", so field and text cannot disagree.
template <typename... Args>
absl::Status Refuse(Reason reason, fmt::format_string<Args...> format, Args&&... args) {
  return MakeRefusal(reason, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
absl::Status InvalidField(fmt::format_string<Args...> format, Args&&... args) {
  return MakeRefusal(Reason::kInvalidField, fmt::format(format, std::forward<Args>(args)...));
}

// A refusal after which the same request may succeed once `delay` has passed: at least the reason's
// own retry_after, rounded up to milliseconds. REQUIRES: the reason has one and names no field.
absl::Status RefuseFor(std::chrono::nanoseconds delay, Reason reason, std::string message);
// The delay of a refusal: its own, or its reason's; 0 when a retry does not help. REQUIRES: not OK.
std::chrono::milliseconds RetryAfterOf(const absl::Status& status);

// The same refusal, "FIELD: " before its message and FIELD as its field. OK stays OK.
absl::Status AtField(const std::string& field, const absl::Status& status);

}  // namespace monet
