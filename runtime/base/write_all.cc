#include "runtime/base/write_all.h"

#include <unistd.h>

#include <cerrno>

namespace monet {

int WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (written == 0) return EIO;  // no progress is to be had
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

}  // namespace monet
