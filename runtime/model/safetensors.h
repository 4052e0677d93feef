// The safetensors format: a strict, bounded reader and a small writer.
//
// A file is u64 (little-endian) header length, a JSON header, then the tensors' bytes. The reader
// takes only what the format allows: data offsets cover the data exactly, in order, without holes
// or overlaps; every shape times its dtype's size is that tensor's length.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace monet {

enum class TensorDType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

std::string_view DTypeName(TensorDType dtype);  // as the format spells it: "BF16"
int64_t DTypeBytes(TensorDType dtype);          // bytes of one element

struct TensorInfo {
  std::string name;
  TensorDType dtype = TensorDType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // from the beginning of the file
  uint64_t bytes = 0;
};

// The first 8 bytes of a file of `file_bytes` bytes. Errors: INVALID_ARGUMENT when the header would
// be longer than the file or than limits::kMaxSafetensorsHeaderBytes.
absl::StatusOr<uint64_t> SafetensorsHeaderBytes(std::span<const uint8_t> first,
                                                uint64_t file_bytes);

// The JSON header of such a file; tensors in the order of their data. Errors: INVALID_ARGUMENT.
absl::StatusOr<std::vector<TensorInfo>> ParseSafetensorsHeader(std::string_view header,
                                                               uint64_t file_bytes);

// An open file. Immutable; Read is thread-safe. Reads with pread, never a mapping, so a file that
// shrinks while it is open is an error and not a signal.
class SafetensorsFile {
 public:
  // Errors: NOT_FOUND, INVALID_ARGUMENT (content; not a regular file). They name the file by its
  // last component only.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& name() const { return name_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* Find(std::string_view name) const;  // null when absent

  // Reads out.size() bytes from `begin` bytes into the tensor. REQUIRES: within info.bytes.
  absl::Status Read(const TensorInfo& info, uint64_t begin, std::span<uint8_t> out) const;

 private:
  SafetensorsFile() = default;

  std::string name_;
  int fd_ = -1;
  std::vector<TensorInfo> tensors_;
};

// A tensor to write. The bytes must outlive the call.
struct TensorToWrite {
  std::string name;
  TensorDType dtype = TensorDType::kF32;
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;
};

// The bytes of a safetensors file; `metadata` goes into its header. Errors: INVALID_ARGUMENT (bytes
// do not fit shape and dtype, duplicate or reserved name).
absl::StatusOr<std::string> EncodeSafetensors(
    const std::vector<TensorToWrite>& tensors,
    const std::map<std::string, std::string>& metadata = {});

// Writes it to `path`, replacing what is there only when everything was written. Errors: also those
// of ReplaceFile, naming the file by its last component.
absl::Status WriteSafetensors(const std::filesystem::path& path,
                              const std::vector<TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace monet
