#include "runtime/tenant/key_file_writer.h"

#include <sstream>
#include <system_error>

#include "runtime/base/bounded_file.h"
#include "runtime/base/replace_file.h"
#include "runtime/limits.h"

namespace monet {
namespace {

namespace fs = std::filesystem;

// How far the file's own entries are indented.
size_t IndentOf(const std::string& yaml) {
  std::istringstream lines(yaml);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t first = line.find_first_not_of(' ');
    if (first != std::string::npos && line.substr(first, 2) == "- ") return first;
  }
  return 0;
}

}  // namespace

std::string FormatKeyEntry(const KeyEntry& entry, size_t indent) {
  const std::string blanks(indent, ' ');
  std::string text = fmt::format("{}- tenant: \"{}\"\n{}  sha256: {}\n", blanks, entry.tenant,
                                 blanks, entry.hash.ToString().substr(7));
  if (!entry.id.empty()) text += fmt::format("{}  id: \"{}\"\n", blanks, entry.id);
  if (entry.not_after) {
    text += fmt::format("{}  not_after: {}\n", blanks, FormatUtcTime(*entry.not_after));
  }
  return text;
}

absl::Status AppendKeyEntry(const fs::path& path, const KeyEntry& entry) {
  MONET_RETURN_IF_ERROR(CheckReplaceable(path));
  std::error_code error;
  std::string yaml = "keys:\n";
  size_t before = 0;
  if (fs::exists(path, error)) {
    MONET_ASSIGN_OR_RETURN(yaml, ReadBoundedFile(path, limits::kMaxTenantFileBytes));
    MONET_ASSIGN_OR_RETURN(const auto keys, ParseKeys(yaml));
    before = keys.size();
    if (!yaml.ends_with('\n')) yaml += '\n';
    // An empty list in brackets is what a file without keys has.
    if (const size_t empty = yaml.find("keys: []"); before == 0 && empty != std::string::npos) {
      yaml.replace(empty, 8, "keys:");
    }
  }
  yaml += FormatKeyEntry(entry, IndentOf(yaml));
  const auto after = ParseKeys(yaml);
  if (!after.ok() || after->size() != before + 1) {
    return InvalidArgument("the entry cannot be appended to this file{}{}", after.ok() ? "" : ": ",
                           after.ok() ? "" : Message(after.status()));
  }
  return ReplaceFile(path, yaml, {.new_mode = 0600, .one_writer = true});
}

}  // namespace monet
