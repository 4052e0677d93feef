#include "runtime/base/replace_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "runtime/base/write_all.h"

namespace monet {
namespace {

namespace fs = std::filesystem;

struct Target {
  fs::path path;  // no link
  bool exists = false;
  mode_t mode = 0;
};

std::string SystemError(int number) { return std::generic_category().message(number); }

fs::path FolderOf(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

absl::StatusOr<Target> FindTarget(const fs::path& path) {
  Target target{path};
  struct stat info {};
  std::error_code error;
  if (stat(path.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode)) return InvalidArgument("not a regular file");
    target.path = fs::canonical(path, error);
    if (error) return InvalidArgument("{}", error.message());
    target.exists = true;
    target.mode = info.st_mode & 07777;
    return target;
  }
  if (errno != ENOENT) return InvalidArgument("{}", SystemError(errno));
  // Making the file that it was meant to lead to would be a guess.
  if (fs::is_symlink(path, error)) return InvalidArgument("a link that leads to no file");
  if (!fs::is_directory(FolderOf(path), error)) return InvalidArgument("there is no such folder");
  return target;
}

// Makes the rename itself last.
void SyncFolder(const fs::path& folder) {
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  close(descriptor);
}

// The file that is written first. One writer's is in sight, so that people find it; any other is
// hidden, so that what reads the folder's files meanwhile passes it over.
fs::path NextTo(const fs::path& path, bool one_writer) {
  if (one_writer) return path.string() + ".new";
  return FolderOf(path) / fmt::format(".{}.{}.tmp", path.filename().string(), getpid());
}

// Returns 0 or errno.
int WriteNew(int file, std::string_view bytes, const Target& target) {
  if (target.exists && fchmod(file, target.mode) != 0) return errno;
  if (const int failed = WriteAll(file, bytes); failed != 0) return failed;
  return fsync(file) == 0 ? 0 : errno;
}

}  // namespace

absl::Status CheckReplaceable(const fs::path& path) { return FindTarget(path).status(); }

absl::Status ReplaceFile(const fs::path& path, std::string_view bytes,
                         const ReplaceOptions& options) {
  MONET_ASSIGN_OR_RETURN(const Target target, FindTarget(path));
  const fs::path next = NextTo(target.path, options.one_writer);
  if (!options.one_writer) unlink(next.c_str());  // of a process that had this number before
  const mode_t mode = target.exists ? target.mode & 0777 : options.new_mode;
  const int file = open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (file < 0 && errno == EEXIST) {
    return InvalidArgument("{} is there: another writer is at work, or one was interrupted",
                           next.filename().string());
  }
  int failed = file < 0 ? errno : WriteNew(file, bytes, target);
  if (file >= 0 && close(file) != 0 && failed == 0) failed = errno;
  if (failed == 0 && rename(next.c_str(), target.path.c_str()) != 0) failed = errno;
  if (failed == 0) {
    SyncFolder(FolderOf(target.path));
    return absl::OkStatus();
  }
  if (file >= 0) unlink(next.c_str());
  return Error(absl::StatusCode::kInternal, "cannot be written: {}", SystemError(failed));
}

}  // namespace monet
