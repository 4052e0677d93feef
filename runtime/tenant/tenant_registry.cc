#include "runtime/tenant/tenant_registry.h"

#include <utility>

#include "runtime/base/bounded_file.h"
#include "runtime/limits.h"

namespace monet {
namespace {

absl::StatusOr<std::string> ReadOptional(const std::filesystem::path& path) {
  return path.empty() ? std::string() : ReadBoundedFile(path, limits::kMaxTenantFileBytes);
}

absl::Status At(const std::filesystem::path& path, const absl::Status& status) {
  return InvalidArgument("{}: {}", path.filename().string(), Message(status));
}

// Tagged, so that no content is taken for an error or for the other file's.
void AddTo(const absl::StatusOr<std::string>& text, Hasher* hasher) {
  const std::string bytes = text.ok() ? *text : Message(text.status());
  hasher->UpdateU32(text.ok()).UpdateU32(static_cast<uint32_t>(bytes.size())).Update(bytes);
}

// What the files hold, or why they cannot be read.
struct FileTexts {
  absl::StatusOr<std::string> tenants;
  absl::StatusOr<std::string> keys;
  Digest digest;
};

FileTexts ReadTexts(const TenantPaths& paths) {
  FileTexts texts{ReadOptional(paths.tenants), ReadOptional(paths.keys), {}};
  Hasher hasher;
  AddTo(texts.tenants, &hasher);
  AddTo(texts.keys, &hasher);
  texts.digest = hasher.Finish();
  return texts;
}

absl::StatusOr<std::shared_ptr<const TenantSet>> ParseTexts(const TenantPaths& paths,
                                                            const FileTexts& texts) {
  if (paths.tenants.empty()) return TenantSet::Open();
  if (!texts.tenants.ok()) return At(paths.tenants, texts.tenants.status());
  if (!texts.keys.ok()) return At(paths.keys, texts.keys.status());
  auto file = ParseTenants(*texts.tenants);
  if (!file.ok()) return At(paths.tenants, file.status());
  std::vector<KeyEntry> keys;
  if (!paths.keys.empty()) {
    auto parsed = ParseKeys(*texts.keys);
    if (!parsed.ok()) return At(paths.keys, parsed.status());
    keys = *std::move(parsed);
  }
  auto set = TenantSet::Make(*std::move(file), std::move(keys));
  if (!set.ok()) return At(paths.keys, set.status());
  return set;
}

}  // namespace

struct TenantRegistry::Content : FileTexts {};

absl::StatusOr<std::shared_ptr<const TenantSet>> ReadTenantSet(const TenantPaths& paths) {
  return ParseTexts(paths, ReadTexts(paths));
}

absl::StatusOr<std::unique_ptr<TenantRegistry>> TenantRegistry::Load(const TenantPaths& paths) {
  std::unique_ptr<TenantRegistry> registry(new TenantRegistry(paths));
  MONET_RETURN_IF_ERROR(registry->Reload());
  return registry;
}

std::shared_ptr<const TenantSet> TenantRegistry::Current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

absl::Status TenantRegistry::Reload() {
  const std::lock_guard lock(reload_mutex_);
  return Take({ReadTexts(paths_)});
}

std::optional<absl::Status> TenantRegistry::ReloadIfChanged() {
  const std::lock_guard lock(reload_mutex_);
  const Content content{ReadTexts(paths_)};
  if (content.digest == last_read_) return std::nullopt;
  return Take(content);
}

absl::Status TenantRegistry::Take(const Content& content) {
  last_read_ = content.digest;
  MONET_ASSIGN_OR_RETURN(auto next, ParseTexts(paths_, content));
  if (!next->HasWayIn(paths_.client_certificates)) {
    return InvalidArgument(
        "{}: nobody could be served: there is no key, no client certificate that would be verified "
        "and no tenant anonymous",
        paths_.tenants.filename().string());
  }
  const std::lock_guard lock(mutex_);
  current_.swap(next);
  return absl::OkStatus();
}

}  // namespace monet
