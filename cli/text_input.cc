#include "cli/text_input.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

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

// Length of the UTF-8 sequence (Unicode 15, table 3-7) at the start of `bytes`, 0 if there is none.
size_t SequenceLength(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || bytes.size() < length) return 0;
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (at(1) < low || at(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
  }
  return length;
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
    const size_t length = SequenceLength(text.substr(i));
    if (length == 0) return InvalidArgument("{} is not UTF-8 at byte {}", field, i);
    i += length;
  }
  return absl::OkStatus();
}

}  // namespace monet::cli
