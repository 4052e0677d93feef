// Files that are written whole, beside what they replace.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string_view>

#include "runtime/base/status.h"

namespace monet {

struct ReplaceOptions {
  mode_t new_mode = 0666;   // of a file that was not there, less the umask; else its mode stays
  bool one_writer = false;  // refuse while another writer's or an interrupted one's file is there
};

// Whether ReplaceFile may write to `path`, without writing. Errors: INVALID_ARGUMENT, without the
// path, when there is something that is not a regular file (a pipe, a device, a folder), a link
// that leads to no file, or no folder to write in.
absl::Status CheckReplaceable(const std::filesystem::path& path);

// Writes a file beside the target and renames it: whoever reads at the same time sees the old file
// or the new one, and a failure leaves the old one. A link stays: the file that it leads to is
// replaced. Errors: those of CheckReplaceable; INVALID_ARGUMENT for the other writer of one_writer;
// INTERNAL, without the path, when the system refuses.
absl::Status ReplaceFile(const std::filesystem::path& path, std::string_view bytes,
                         const ReplaceOptions& options = {});

}  // namespace monet
