// Keeps the table in docs/errors.md equal to the table of reasons in the code:
//   errors_doc FILE           exit code 1 when the table between FILE's two markers differs
//   errors_doc --write FILE   writes it there
#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "runtime/base/reasons.h"

namespace {

constexpr char kBegin[] = "<!-- reasons: written by bin/errors_doc -->\n";
constexpr char kEnd[] = "<!-- end of reasons -->\n";

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

int Fail(const std::string& path, const std::string& what) {
  std::cerr << "errors_doc: " << path << " " << what << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const bool write = argc == 3 && std::string(argv[1]) == "--write";
  if (argc != 2 && !write) return Fail("[--write] FILE", "is expected");
  const std::string path = argv[argc - 1];
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  in.close();
  const size_t marker = text.find(kBegin);
  const size_t begin = marker + sizeof(kBegin) - 1;
  const size_t end = text.find(kEnd);
  if (marker == std::string::npos || end == std::string::npos || end < begin) {
    return Fail(path, "lacks the markers of the table");
  }
  if (!write && text.substr(begin, end - begin) != Table()) {
    return Fail(path, "is not what the code says: build/release/bin/errors_doc --write it");
  }
  if (!write) return 0;
  std::ofstream out(path, std::ios::binary);
  out << text.replace(begin, end - begin, Table());
  return out.flush() ? 0 : Fail(path, "cannot be written");
}
