#include "runtime/tenant/key_file_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <system_error>

#include "runtime/base/bounded_file.h"
#include "runtime/base/write_all.h"
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

std::string SystemError() { return std::generic_category().message(errno); }

// Makes the rename itself last.
void SyncFolder(const fs::path& folder) {
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  close(descriptor);
}

absl::Status ReplaceFile(const fs::path& path, std::string_view bytes, mode_t mode) {
  const fs::path next = path.string() + ".new";
  const int file = open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (file < 0) {
    return errno == EEXIST
               ? InvalidArgument("{} is there: another writer is at work, or one was interrupted",
                                 next.string())
               : InvalidArgument("cannot write {}: {}", next.string(), SystemError());
  }
  const bool written = fchmod(file, mode) == 0 && WriteAll(file, bytes) == 0 && fsync(file) == 0;
  const std::string problem = written ? "" : SystemError();
  close(file);
  if (written && rename(next.c_str(), path.c_str()) == 0) {
    SyncFolder(path.has_parent_path() ? path.parent_path() : fs::path("."));
    return absl::OkStatus();
  }
  const std::string reason = written ? SystemError() : problem;
  unlink(next.c_str());
  return InvalidArgument("cannot write {}: {}", path.string(), reason);
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

absl::Status AppendKeyEntry(const fs::path& given, const KeyEntry& entry) {
  // The file that a link means is replaced, not the link.
  std::error_code error;
  const fs::path path = fs::exists(given, error) ? fs::canonical(given, error) : given;
  std::string yaml = "keys:\n";
  size_t before = 0;
  mode_t mode = 0600;
  if (fs::exists(path, error)) {
    MONET_ASSIGN_OR_RETURN(yaml, ReadBoundedFile(path, limits::kMaxTenantFileBytes));
    MONET_ASSIGN_OR_RETURN(const auto keys, ParseKeys(yaml));
    before = keys.size();
    struct stat info {};
    if (stat(path.c_str(), &info) == 0) mode = info.st_mode & 0777;
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
  return ReplaceFile(path, yaml, mode);
}

}  // namespace monet
