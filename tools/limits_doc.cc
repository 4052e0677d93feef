// Keeps docs/limits.md equal to the code: the table of limits and the table of settings. See
// marked_tables.h for how it is called.
#include <fmt/format.h>

#include <bit>
#include <string>

#include "runtime/base/limits_table.h"
#include "server/settings.h"
#include "tools/marked_tables.h"

namespace {

// 1048576 as "1048576 (2^20)".
std::string Number(int64_t value) {
  const auto bits = static_cast<uint64_t>(value);
  if (value <= 4096 || !std::has_single_bit(bits)) return fmt::format("{}", value);
  return fmt::format("{} (2^{})", value, std::countr_zero(bits));
}

std::string LimitsTable() {
  std::string text;
  const monet::LimitRow* last = nullptr;
  for (const monet::LimitRow& row : monet::LimitRows()) {
    if (last == nullptr || last->group != row.group) {
      text += fmt::format(
          "\n### {}\n\n| bounded | limit | unit | checked | beyond it | constant |\n"
          "|---|---:|---|---|---|---|\n",
          monet::TitleOf(row.group));
    }
    text += fmt::format("| {} | {} | {} | {} | {} | `{}` |\n", row.bounds, Number(row.value),
                        row.unit, row.checked, monet::BeyondText(row), row.constant);
    last = &row;
  }
  return text + "\n";
}

std::string SettingsTable() {
  std::string text = "| setting | range | default | what |\n|---|---|---|---|\n";
  for (const monet::server::Setting& setting : monet::server::Settings()) {
    text += fmt::format("| `{}` | {} | {} | {} |\n", setting.key, monet::server::RangeText(setting),
                        setting.default_text, setting.description);
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  return monet::tools::KeepTables(argc, argv, "limits_doc",
                                  {{"limits", LimitsTable()}, {"settings", SettingsTable()}});
}
