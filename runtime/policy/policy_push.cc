#include "runtime/policy/policy_push.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "runtime/base/bounded_file.h"
#include "runtime/base/replace_file.h"

namespace monet {
namespace {

namespace fs = std::filesystem;

absl::Status SystemFailure(std::string_view what) {
  return Error(absl::StatusCode::kInternal, "{}: {}", what, std::generic_category().message(errno));
}

// Held as long as it lives; the system lets go of it with the process.
class FolderLock {
 public:
  FolderLock() = default;
  ~FolderLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  absl::Status Take(const fs::path& folder) {
    descriptor_ = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor_ < 0) {
      return InvalidArgument("{}", std::generic_category().message(errno));
    }
    if (flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
    if (errno == EWOULDBLOCK) return InvalidArgument("another push is at work there");
    return SystemFailure("cannot be locked");
  }
  // Makes new entries last.
  void Sync() const { fsync(descriptor_); }

 private:
  int descriptor_ = -1;
};

absl::StatusOr<PushResult> CheckAgainst(const PolicyFile& file, const std::string& file_name,
                                        const fs::path& entry) {
  auto other = ReadPolicyFile(entry);
  if (!other.ok()) return other.status();
  const std::string place = file.policy.name + "/" + entry.filename().string();
  if (other->policy.version == file.policy.version && other->policy.model == file.policy.model) {
    if (other->policy.digest == file.policy.digest) return PushResult::kUnchanged;
    return InvalidArgument("{}: the version is there with other content; give it another number",
                           place);
  }
  if (entry.filename() == file_name) {
    return InvalidArgument(
        "{}: is of another model; call the file {}.{}.yaml, and its mask likewise", place,
        file.policy.version, file.policy.model.ToString().substr(7, 8));
  }
  if (!file.mask_name.empty() && other->mask_name == file.mask_name) {
    return InvalidArgument("{}: has a mask file of the same name, {}", place, file.mask_name);
  }
  return PushResult::kWritten;
}

// What is in the folder already.
absl::StatusOr<PushResult> CheckFolder(const PolicyFile& file, const std::string& file_name,
                                       const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.') || it->path().extension() != ".yaml") continue;
    MONET_ASSIGN_OR_RETURN(const PushResult result, CheckAgainst(file, file_name, it->path()));
    if (result == PushResult::kUnchanged) return result;
  }
  if (error) return InvalidArgument("{}: {}", file.policy.name, error.message());
  return PushResult::kWritten;
}

absl::Status WriteNamed(const fs::path& folder, const std::string& name, std::string_view bytes) {
  const absl::Status status = ReplaceFile(folder / name, bytes, {.new_mode = 0644});
  if (status.ok()) return status;
  return Error(status.code(), "{}/{}: {}", folder.filename().string(), name, Message(status));
}

}  // namespace

absl::StatusOr<PushResult> PushPolicy(const PolicyFile& file, const std::string& file_name,
                                      const fs::path& directory) {
  if (!file.mask_name.empty() && !file.mask_name.ends_with(".mask")) {
    return InvalidArgument("{}/{}: the mask file's name must end with .mask", file.policy.name,
                           file.mask_name);
  }
  FolderLock lock;
  MONET_RETURN_IF_ERROR(lock.Take(directory));
  const fs::path folder = directory / file.policy.name;
  std::error_code error;
  if (fs::create_directory(folder, error)) {
    lock.Sync();
  } else if (error) {
    return InvalidArgument("{}: {}", file.policy.name, error.message());
  }
  MONET_ASSIGN_OR_RETURN(const PushResult result, CheckFolder(file, file_name, folder));
  if (result == PushResult::kUnchanged) return result;
  if (!file.mask_name.empty()) {
    MONET_RETURN_IF_ERROR(WriteNamed(folder, file.mask_name, file.mask));
  }
  MONET_RETURN_IF_ERROR(WriteNamed(folder, file_name, file.yaml));
  return PushResult::kWritten;
}

}  // namespace monet
