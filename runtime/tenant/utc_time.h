// Points in time as configuration files write them.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace monet {

using UtcTime = std::chrono::sys_seconds;

// 2027-01-31 (its first second) or 2027-01-31T23:59:59Z; nothing for any other text.
std::optional<UtcTime> ParseUtcTime(std::string_view text);
// 2027-01-31T23:59:59Z
std::string FormatUtcTime(UtcTime time);

}  // namespace monet
