// The project's one door to absl::Status: Debian builds Abseil with its own string_view, so
// messages are made with fmt and enter Abseil as std::string.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace monet {

// Error(absl::StatusCode::kInvalidArgument, "max_tokens is {}, limit {}", n, limit)
// Messages name the field and the limit; no paths of the server, addresses or tenants' data in
// anything that can reach a client.
template <typename... Args>
absl::Status Error(absl::StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
  return absl::Status(code, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
absl::Status InvalidArgument(fmt::format_string<Args...> format, Args&&... args) {
  return Error(absl::StatusCode::kInvalidArgument, format, std::forward<Args>(args)...);
}

// The message as std::string.
inline std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

}  // namespace monet

#define MONET_CONCAT_INNER(a, b) a##b
#define MONET_CONCAT(a, b) MONET_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` (absl::Status) is not OK.
#define MONET_RETURN_IF_ERROR(expr)                \
  do {                                             \
    absl::Status monet_status_ = (expr);           \
    if (!monet_status_.ok()) return monet_status_; \
  } while (false)

#define MONET_ASSIGN_OR_RETURN(lhs, expr) \
  MONET_ASSIGN_OR_RETURN_IMPL(MONET_CONCAT(monet_statusor_, __LINE__), lhs, expr)
#define MONET_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                \
  if (!tmp.ok()) return tmp.status();               \
  lhs = *std::move(tmp)
