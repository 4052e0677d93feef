// Bytes as model.safetensors.index.json: never a crash, and never a file name that leaves the
// checkpoint's directory.
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "runtime/base/check.h"
#include "runtime/model/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto index =
      monet::ParseShardIndex(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!index.ok()) return 0;
  MONET_CHECK(!index->empty());
  for (const auto& [tensor, shard] : *index) {
    const std::filesystem::path path(shard);
    MONET_CHECK(path.filename() == path && path.extension() == ".safetensors");
    MONET_CHECK(shard.find('\0') == std::string::npos);
  }
  return 0;
}
