#include "cli/text_input.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/base/utf8.h"

namespace monet::cli {
namespace {

absl::Status SystemError(const std::string& path, int error) {
  if (error == ENOENT) return Error(absl::StatusCode::kNotFound, "no file '{}'", path);
  return InvalidArgument("cannot read '{}': {}", path, std::strerror(error));
}

absl::StatusOr<std::string> ReadDescriptor(int fd, const std::string& path) {
  std::string text;
  while (text.size() <= kMaxInputBytes) {
    constexpr size_t kChunk = 1 << 16;
    const size_t old_size = text.size();
    text.resize(old_size + kChunk);
    const ssize_t got = read(fd, text.data() + old_size, kChunk);
    const int error = errno;
    text.resize(old_size + static_cast<size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) return text;
    if (got < 0 && error != EINTR) return SystemError(path, error);
  }
  return InvalidArgument("'{}' has more than {} bytes", path, kMaxInputBytes);
}

}  // namespace

absl::StatusOr<std::string> ReadInput(const std::string& path) {
  if (path == "-") return ReadDescriptor(STDIN_FILENO, "standard input");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return SystemError(path, errno);
  absl::StatusOr<std::string> text = ReadDescriptor(fd, path);
  close(fd);
  return text;
}

absl::Status RequireUtf8(std::string_view field, std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Unit unit = NextUtf8(text.substr(i));
    if (unit.kind != Utf8Unit::Kind::kCharacter) {
      return InvalidArgument("{} is not UTF-8 at byte {}", field, i);
    }
    i += unit.length;
  }
  return absl::OkStatus();
}

}  // namespace monet::cli
