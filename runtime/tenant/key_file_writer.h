// Adding a key to keys.yaml.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/base/status.h"
#include "runtime/tenant/key_file.h"

namespace monet {

// The entry as lines of keys.yaml: "- tenant: acme\n  sha256: …\n", each after `indent` blanks.
std::string FormatKeyEntry(const KeyEntry& entry, size_t indent = 0);

// Appends the entry to the file, which is made (mode 0600) when there is none. Whoever reads at the
// same time sees the old file or the new one: see ReplaceFile. What is in the file stays as it is,
// comments too.
// Errors: INVALID_ARGUMENT when the file is no keys.yaml or its list cannot be appended to (one in
// brackets); those of ReplaceFile, also when another writer's temporary file is there.
absl::Status AppendKeyEntry(const std::filesystem::path& path, const KeyEntry& entry);

}  // namespace monet
