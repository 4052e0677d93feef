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

}  // namespace

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
  return Take(Read());
}

std::optional<absl::Status> TenantRegistry::ReloadIfChanged() {
  const std::lock_guard lock(reload_mutex_);
  const Content content = Read();
  if (content.digest == last_read_) return std::nullopt;
  return Take(content);
}

TenantRegistry::Content TenantRegistry::Read() const {
  Content content{ReadOptional(paths_.tenants), ReadOptional(paths_.keys), {}};
  Hasher hasher;
  AddTo(content.tenants, &hasher);
  AddTo(content.keys, &hasher);
  content.digest = hasher.Finish();
  return content;
}

absl::StatusOr<std::shared_ptr<const TenantSet>> TenantRegistry::Parse(
    const Content& content) const {
  if (paths_.tenants.empty()) return TenantSet::Open();
  if (!content.tenants.ok()) return At(paths_.tenants, content.tenants.status());
  if (!content.keys.ok()) return At(paths_.keys, content.keys.status());
  auto file = ParseTenants(*content.tenants);
  if (!file.ok()) return At(paths_.tenants, file.status());
  std::vector<KeyEntry> keys;
  if (!paths_.keys.empty()) {
    auto parsed = ParseKeys(*content.keys);
    if (!parsed.ok()) return At(paths_.keys, parsed.status());
    keys = *std::move(parsed);
  }
  auto set = TenantSet::Make(*std::move(file), std::move(keys));
  if (!set.ok()) return At(paths_.keys, set.status());
  if (!(*set)->HasWayIn(paths_.client_certificates)) {
    return InvalidArgument(
        "{}: nobody could be served: there is no key, no client certificate that would be verified "
        "and no tenant anonymous",
        paths_.tenants.filename().string());
  }
  return set;
}

absl::Status TenantRegistry::Take(const Content& content) {
  last_read_ = content.digest;
  MONET_ASSIGN_OR_RETURN(auto next, Parse(content));
  const std::lock_guard lock(mutex_);
  current_.swap(next);
  return absl::OkStatus();
}

}  // namespace monet
