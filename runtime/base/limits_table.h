// What every limit of runtime/limits.h bounds, where it is checked and what happens beyond it: the
// table from which docs/limits.md is written. A test fails when a limit has no row.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "runtime/base/reasons.h"

namespace monet {

struct LimitRow {
  // Whose input is bounded, in the order of the table.
  enum class Group : uint8_t { kModel, kPolicies, kTenants, kRequest, kServer };

  Group group;
  const char* constant;  // of namespace monet::limits
  int64_t value;
  const char* unit;     // in the plural
  const char* bounds;   // what is bounded; for a request the fields
  const char* checked;  // where, before anything proportional to it is allocated
  const char* beyond;   // what happens; null: a refusal for `reason`
  std::optional<Reason> reason = std::nullopt;
};

std::span<const LimitRow> LimitRows();
const char* TitleOf(LimitRow::Group group);
std::string BeyondText(const LimitRow& row);

}  // namespace monet
