#include "runtime/model/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runtime/base/replace_file.h"
#include "runtime/limits.h"
#include "runtime/model/json.h"

namespace monet {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxDimensions = 8;
constexpr std::string_view kMetadata = "__metadata__";
// Four levels are all that the format has. A tensor takes about 8 values; the largest Monet has
// fewer than 1,000 tensors.
constexpr JsonLimits kHeaderLimits{.max_depth = 4, .max_values = 2'000'000};

struct DTypeEntry {
  std::string_view name;
  int64_t bytes;
};

// In the order of TensorDType.
constexpr DTypeEntry kDTypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
    {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
    {"U32", 4},  {"F32", 4}, {"I64", 8}, {"U64", 8},     {"F64", 8},
};

absl::StatusOr<TensorDType> ParseDType(const Json& entry, const std::string& tensor) {
  const auto it = entry.find("dtype");
  if (it == entry.end() || !it->is_string()) {
    return InvalidArgument("tensor {}: dtype is missing or not a string", tensor);
  }
  const auto& text = it->get_ref<const std::string&>();
  for (size_t i = 0; i < std::size(kDTypes); ++i) {
    if (kDTypes[i].name == text) return static_cast<TensorDType>(i);
  }
  return InvalidArgument("tensor {}: unknown dtype \"{}\"", tensor, Printable(text));
}

// Elements times element size, which must not overflow; dimensions may be 0.
absl::StatusOr<uint64_t> ByteCount(const std::vector<int64_t>& shape, TensorDType dtype,
                                   const std::string& tensor) {
  uint64_t bytes = DTypeBytes(dtype);
  for (int64_t dimension : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(dimension), &bytes)) {
      return InvalidArgument("tensor {}: the product of its shape overflows", tensor);
    }
  }
  return bytes;
}

absl::StatusOr<std::vector<int64_t>> ParseShape(const Json& entry, const std::string& tensor) {
  const auto it = entry.find("shape");
  if (it == entry.end() || !it->is_array()) {
    return InvalidArgument("tensor {}: shape is missing or not an array", tensor);
  }
  if (it->size() > kMaxDimensions) {
    return InvalidArgument("tensor {}: {} dimensions, limit {}", tensor, it->size(),
                           kMaxDimensions);
  }
  std::vector<int64_t> shape;
  for (const Json& dimension : *it) {
    // The bound keeps the value inside int64; products are checked apart.
    if (!dimension.is_number_unsigned() || dimension.get<uint64_t>() > uint64_t{1} << 62) {
      return InvalidArgument("tensor {}: a dimension is not an integer from 0 to 2^62", tensor);
    }
    shape.push_back(dimension.get<int64_t>());
  }
  return shape;
}

// Reads data_offsets into offset and bytes, still relative to the data.
absl::Status ParseOffsets(const Json& entry, uint64_t data_bytes, TensorInfo* info) {
  const auto it = entry.find("data_offsets");
  if (it == entry.end() || !it->is_array() || it->size() != 2 || !(*it)[0].is_number_unsigned() ||
      !(*it)[1].is_number_unsigned()) {
    return InvalidArgument("tensor {}: data_offsets is not two integers", Printable(info->name));
  }
  const uint64_t begin = (*it)[0].get<uint64_t>();
  const uint64_t end = (*it)[1].get<uint64_t>();
  if (begin > end || end > data_bytes) {
    return InvalidArgument(
        "tensor {}: data_offsets {} to {} are reversed or beyond {} bytes of data",
        Printable(info->name), begin, end, data_bytes);
  }
  info->offset = begin;
  info->bytes = end - begin;
  return absl::OkStatus();
}

absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const Json& entry,
                                       uint64_t data_bytes) {
  TensorInfo info{.name = name};
  const std::string shown = Printable(name);
  if (!entry.is_object()) return InvalidArgument("tensor {}: not an object", shown);
  for (const auto& [key, value] : entry.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return InvalidArgument("tensor {}: unknown key \"{}\"", shown, Printable(key));
    }
  }
  MONET_ASSIGN_OR_RETURN(info.dtype, ParseDType(entry, shown));
  MONET_ASSIGN_OR_RETURN(info.shape, ParseShape(entry, shown));
  MONET_RETURN_IF_ERROR(ParseOffsets(entry, data_bytes, &info));
  MONET_ASSIGN_OR_RETURN(const uint64_t expected, ByteCount(info.shape, info.dtype, shown));
  if (expected != info.bytes) {
    return InvalidArgument("tensor {}: {} bytes of data, shape and dtype ask for {}", shown,
                           info.bytes, expected);
  }
  return info;
}

absl::Status CheckMetadata(const Json& metadata) {
  if (!metadata.is_object()) return InvalidArgument("{} is not an object", kMetadata);
  for (const Json& value : metadata) {
    if (!value.is_string()) return InvalidArgument("{} holds a value that is no string", kMetadata);
  }
  return absl::OkStatus();
}

// Tensors sorted by offset must follow each other from 0 to the end of the data.
absl::Status CheckCoverage(const std::vector<TensorInfo>& tensors, uint64_t data_bytes) {
  uint64_t end = 0;
  for (const TensorInfo& info : tensors) {
    if (info.offset != end) {
      return InvalidArgument("tensor {}: data begins at {}, the tensor before ends at {}",
                             Printable(info.name), info.offset, end);
    }
    end += info.bytes;
  }
  if (end != data_bytes) {
    return InvalidArgument("{} bytes of data, the tensors cover {}", data_bytes, end);
  }
  return absl::OkStatus();
}

absl::Status ReadExactly(int fd, uint64_t offset, std::span<uint8_t> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return InvalidArgument("read error: {}", std::generic_category().message(errno));
    if (got == 0) return InvalidArgument("the file is shorter than it was when opened");
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status Named(const std::string& file, const absl::Status& status) {
  return absl::Status(status.code(), fmt::format("{}: {}", file, Message(status)));
}

}  // namespace

std::string_view DTypeName(TensorDType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

int64_t DTypeBytes(TensorDType dtype) { return kDTypes[static_cast<size_t>(dtype)].bytes; }

absl::StatusOr<uint64_t> SafetensorsHeaderBytes(std::span<const uint8_t> first,
                                                uint64_t file_bytes) {
  if (first.size() < kLengthBytes || file_bytes < kLengthBytes) {
    return InvalidArgument("{} bytes, too short for a header", file_bytes);
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t{first[i]} << (8 * i);
  if (length > limits::kMaxSafetensorsHeaderBytes) {
    return InvalidArgument("header has {} bytes, limit {}", length,
                           limits::kMaxSafetensorsHeaderBytes);
  }
  if (length > file_bytes - kLengthBytes) {
    return InvalidArgument("header has {} bytes, the file only {}", length, file_bytes);
  }
  return length;
}

absl::StatusOr<std::vector<TensorInfo>> ParseSafetensorsHeader(std::string_view header,
                                                               uint64_t file_bytes) {
  if (file_bytes < kLengthBytes || header.size() > file_bytes - kLengthBytes) {
    return InvalidArgument("header has {} bytes, the file only {}", header.size(), file_bytes);
  }
  const uint64_t data_begin = kLengthBytes + header.size();
  const uint64_t data_bytes = file_bytes - data_begin;
  if (!header.starts_with('{')) return InvalidArgument("header does not begin with {{");
  MONET_ASSIGN_OR_RETURN(const Json root, ParseJsonObject(header, "header", kHeaderLimits));
  std::vector<TensorInfo> tensors;
  for (const auto& [name, entry] : root.items()) {
    if (name == kMetadata) {
      MONET_RETURN_IF_ERROR(CheckMetadata(entry));
      continue;
    }
    MONET_ASSIGN_OR_RETURN(TensorInfo info, ParseTensor(name, entry, data_bytes));
    tensors.push_back(std::move(info));
  }
  // Empty tensors share their offset with the next one and go first.
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  MONET_RETURN_IF_ERROR(CheckCoverage(tensors, data_bytes));
  for (TensorInfo& info : tensors) info.offset += data_begin;
  return tensors;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(
    const std::filesystem::path& path) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->name_ = path.filename().string();
  // O_NONBLOCK: opening a FIFO must not hang; it is refused below.
  file->fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file->fd_ < 0) {
    const auto code =
        errno == ENOENT ? absl::StatusCode::kNotFound : absl::StatusCode::kInvalidArgument;
    return Error(code, "{}: {}", file->name_, std::generic_category().message(errno));
  }
  struct stat info {};
  if (fstat(file->fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    return InvalidArgument("{}: not a regular file", file->name_);
  }
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  uint8_t first[kLengthBytes] = {};
  const size_t begin = std::min<uint64_t>(kLengthBytes, file_bytes);
  absl::Status read = ReadExactly(file->fd_, 0, std::span(first, begin));
  if (!read.ok()) return Named(file->name_, read);
  const auto length = SafetensorsHeaderBytes(std::span(first, begin), file_bytes);
  if (!length.ok()) return Named(file->name_, length.status());
  std::string header(*length, '\0');
  read = ReadExactly(file->fd_, kLengthBytes,
                     std::span(reinterpret_cast<uint8_t*>(header.data()), header.size()));
  if (!read.ok()) return Named(file->name_, read);
  auto tensors = ParseSafetensorsHeader(header, file_bytes);
  if (!tensors.ok()) return Named(file->name_, tensors.status());
  file->tensors_ = *std::move(tensors);
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (fd_ >= 0) close(fd_);
}

const TensorInfo* SafetensorsFile::Find(std::string_view name) const {
  for (const TensorInfo& info : tensors_) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

absl::Status SafetensorsFile::Read(const TensorInfo& info, uint64_t begin,
                                   std::span<uint8_t> out) const {
  if (begin > info.bytes || out.size() > info.bytes - begin) {
    return InvalidArgument("{}: tensor {}: read beyond its end", name_, Printable(info.name));
  }
  const absl::Status read = ReadExactly(fd_, info.offset + begin, out);
  return read.ok() ? read : Named(name_, read);
}

absl::StatusOr<std::string> EncodeSafetensors(const std::vector<TensorToWrite>& tensors,
                                              const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  uint64_t end = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::string shown = Printable(tensor.name);
    if (tensor.name == kMetadata || header.contains(tensor.name)) {
      return InvalidArgument("tensor {}: name is reserved or already used", shown);
    }
    MONET_ASSIGN_OR_RETURN(const uint64_t expected, ByteCount(tensor.shape, tensor.dtype, shown));
    if (expected != tensor.bytes.size()) {
      return InvalidArgument("tensor {}: {} bytes given, shape and dtype ask for {}", shown,
                             tensor.bytes.size(), expected);
    }
    header[tensor.name] = {{"dtype", DTypeName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {end, end + expected}}};
    end += expected;
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');  // the format asks for aligned data
  std::string out;
  out.reserve(kLengthBytes + text.size() + end);
  for (size_t i = 0; i < kLengthBytes; ++i) {
    out += static_cast<char>(uint64_t{text.size()} >> (8 * i) & 0xff);
  }
  out += text;
  for (const TensorToWrite& tensor : tensors) {
    out.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  return out;
}

absl::Status WriteSafetensors(const std::filesystem::path& path,
                              const std::vector<TensorToWrite>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  MONET_ASSIGN_OR_RETURN(const std::string bytes, EncodeSafetensors(tensors, metadata));
  const absl::Status written = ReplaceFile(path, bytes);
  return written.ok() ? written : Named(path.filename().string(), written);
}

}  // namespace monet
