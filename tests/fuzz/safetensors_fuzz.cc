// Bytes as a whole safetensors file: never a crash, and whatever is accepted keeps the promises of
// SafetensorsFile and survives being written again.
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/model/safetensors.h"

namespace {

using monet::TensorInfo;

void CheckLayout(const std::vector<TensorInfo>& tensors, uint64_t begin, uint64_t size) {
  uint64_t end = begin;
  for (const TensorInfo& info : tensors) {
    MONET_CHECK(info.offset == end);
    uint64_t bytes = monet::DTypeBytes(info.dtype);
    for (int64_t dimension : info.shape) {
      MONET_CHECK(dimension >= 0);
      bytes *= static_cast<uint64_t>(dimension);
    }
    MONET_CHECK(bytes == info.bytes);
    end += info.bytes;
  }
  MONET_CHECK(end == size);
}

std::vector<TensorInfo> ParseWhole(std::span<const uint8_t> file) {
  const auto length = monet::SafetensorsHeaderBytes(file, file.size());
  if (!length.ok()) return {};
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + 8, *length);
  auto tensors = monet::ParseSafetensorsHeader(header, file.size());
  if (!tensors.ok()) return {};
  CheckLayout(*tensors, 8 + *length, file.size());
  return *std::move(tensors);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span file(data, size);
  const std::vector<TensorInfo> tensors = ParseWhole(file);
  if (tensors.empty()) return 0;
  std::vector<monet::TensorToWrite> again;
  for (const TensorInfo& info : tensors) {
    again.push_back({.name = info.name,
                     .dtype = info.dtype,
                     .shape = info.shape,
                     .bytes = file.subspan(info.offset, info.bytes)});
  }
  const auto encoded = monet::EncodeSafetensors(again);
  MONET_CHECK(encoded.ok());
  const auto reread =
      ParseWhole({reinterpret_cast<const uint8_t*>(encoded->data()), encoded->size()});
  MONET_CHECK(reread.size() == tensors.size());
  return 0;
}
