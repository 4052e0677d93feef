// All bytes to a file descriptor, however few the system takes at a time.
#pragma once

#include <string_view>

namespace monet {

// Blocks until everything is written. Returns 0 or errno.
int WriteAll(int fd, std::string_view bytes);

}  // namespace monet
