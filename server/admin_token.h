// The administrator's credential: one token in a file, compared without telling how much of it was
// right.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "server/reloads.h"

namespace monet::server {

// Thread-safe. Keeps only the token's SHA-256.
class AdminToken {
 public:
  // The file holds the token, 16 to 1024 visible ASCII characters, and at most one line end.
  // Errors: INVALID_ARGUMENT beginning with the setting and the file.
  static absl::StatusOr<std::unique_ptr<AdminToken>> Load(const std::filesystem::path& path);

  // In constant time for every text of one length.
  bool Matches(std::string_view presented) const;

  // Errors leave the last good token in force.
  absl::StatusOr<ReloadOutcome> Reload(ReloadTrigger trigger);

 private:
  AdminToken(std::filesystem::path path, const Digest& digest)
      : path_(std::move(path)), watched_({path_}), digest_(digest) {}

  const std::filesystem::path path_;
  WatchedFiles watched_;
  mutable std::mutex mutex_;
  Digest digest_;
};

}  // namespace monet::server
