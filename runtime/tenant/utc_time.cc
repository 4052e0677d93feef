#include "runtime/tenant/utc_time.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace monet {
namespace {

// The text has digits where the form has '0', and the form's character elsewhere.
bool HasForm(std::string_view text, std::string_view form) {
  return std::equal(text.begin(), text.end(), form.begin(), form.end(),
                    [](char c, char f) { return f == '0' ? c >= '0' && c <= '9' : c == f; });
}

int32_t Number(std::string_view digits) {
  int32_t value = 0;
  for (char c : digits) value = value * 10 + (c - '0');
  return value;
}

}  // namespace

std::optional<UtcTime> ParseUtcTime(std::string_view text) {
  const bool has_time = HasForm(text, "0000-00-00T00:00:00Z");
  if (!has_time && !HasForm(text, "0000-00-00")) return std::nullopt;
  const auto number = [&](size_t at, size_t size) { return Number(text.substr(at, size)); };
  const std::chrono::year_month_day date{std::chrono::year(number(0, 4)),
                                         std::chrono::month(static_cast<uint32_t>(number(5, 2))),
                                         std::chrono::day(static_cast<uint32_t>(number(8, 2)))};
  if (!date.ok()) return std::nullopt;
  UtcTime time = std::chrono::sys_days(date);
  if (!has_time) return time;
  if (number(11, 2) > 23 || number(14, 2) > 59 || number(17, 2) > 59) return std::nullopt;
  return time + std::chrono::hours(number(11, 2)) + std::chrono::minutes(number(14, 2)) +
         std::chrono::seconds(number(17, 2));
}

std::string FormatUtcTime(UtcTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

}  // namespace monet
