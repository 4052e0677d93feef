// Keeps the table in docs/errors.md equal to the table of reasons in the code. See marked_tables.h
// for how it is called.
#include <fmt/format.h>

#include <string>

#include "runtime/base/reasons.h"
#include "tools/marked_tables.h"

namespace {

std::string RetryAfter(const monet::ReasonInfo& info) {
  if (info.retry_after.count() == 0) return "no";
  if (info.reason == monet::Reason::kRateLimited) return "as told";
  return fmt::format("{:g} s", static_cast<double>(info.retry_after.count()) / 1000);
}

std::string Table() {
  std::string text =
      "| reason | code | field | retry after | meaning | what to do |\n|---|---|---|---|---|---|\n";
  for (const monet::ReasonInfo& info : monet::Reasons()) {
    text +=
        fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", info.name,
                    std::string(absl::StatusCodeToString(info.code)),
                    info.names_field ? "yes" : "no", RetryAfter(info), info.meaning, info.remedy);
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  return monet::tools::KeepTables(argc, argv, "errors_doc", {{"reasons", Table()}});
}
