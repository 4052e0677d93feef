#include "runtime/base/bounded_file.h"

#include <fstream>
#include <system_error>

namespace monet {

absl::StatusOr<std::string> ReadBoundedFile(const std::filesystem::path& path, size_t max_bytes) {
  std::error_code error;
  // Opening anything but a file, a pipe say, could wait forever.
  if (!std::filesystem::is_regular_file(path, error)) {
    const bool there = std::filesystem::exists(path, error);
    return InvalidArgument("{}", there ? "not a regular file" : "no such file");
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return InvalidArgument("cannot be read");
  if (size > max_bytes) return InvalidArgument("{} bytes, limit {}", size, max_bytes);
  std::string bytes(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size)) || file.peek() != EOF) {
    return InvalidArgument("cannot be read");
  }
  return bytes;
}

}  // namespace monet
