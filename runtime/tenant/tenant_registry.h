// The set of tenants in force, from two files that may change while the server runs. Both are read
// as a whole: a file with an error leaves the last good set in force.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "runtime/tenant/tenant_set.h"

namespace monet {

struct TenantPaths {
  std::filesystem::path tenants;  // empty: a server without tenants
  std::filesystem::path keys;     // empty: no keys
  // Whether client certificates are verified, so that their subjects are a way in.
  bool client_certificates = false;
};

// Reads both files once. Errors: INVALID_ARGUMENT naming the file (its name without folders), line
// and key.
absl::StatusOr<std::shared_ptr<const TenantSet>> ReadTenantSet(const TenantPaths& paths);

// Thread-safe; readers keep what they got.
class TenantRegistry {
 public:
  // Errors: those of ReadTenantSet; INVALID_ARGUMENT when nobody could be served.
  static absl::StatusOr<std::unique_ptr<TenantRegistry>> Load(const TenantPaths& paths);

  std::shared_ptr<const TenantSet> Current() const;
  // The name of tenants.yaml, without folders.
  std::string file() const { return paths_.tenants.filename().string(); }

  // Reads both files again. Errors: as Load; the set in force stays.
  absl::Status Reload();
  // The same when the content of a file is not the one last read, good or bad; else nothing.
  std::optional<absl::Status> ReloadIfChanged();

 private:
  explicit TenantRegistry(TenantPaths paths) : paths_(std::move(paths)) {}

  struct Content;
  absl::Status Take(const Content& content);

  const TenantPaths paths_;
  std::mutex reload_mutex_;  // one reload at a time
  Digest last_read_;         // under reload_mutex_
  mutable std::mutex mutex_;
  std::shared_ptr<const TenantSet> current_;  // under mutex_
};

}  // namespace monet
