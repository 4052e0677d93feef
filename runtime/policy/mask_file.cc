#include "runtime/policy/mask_file.h"

#include <zlib.h>

#include <limits>

#include "runtime/base/check.h"

namespace monet {

absl::StatusOr<std::vector<uint8_t>> InflateMask(std::string_view compressed, size_t bytes) {
  constexpr size_t kMaxInput = std::numeric_limits<uInt>::max();
  if (compressed.size() > kMaxInput || bytes >= kMaxInput) {
    return InvalidArgument("the mask file is larger than {} bytes", kMaxInput);
  }
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) {
    return Error(absl::StatusCode::kResourceExhausted, "no memory to inflate the mask file");
  }
  // One byte more than wanted shows a stream that gives too much.
  std::vector<uint8_t> bitmap(bytes + 1);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  stream.next_out = bitmap.data();
  stream.avail_out = static_cast<uInt>(bitmap.size());
  const int result = inflate(&stream, Z_FINISH);
  const size_t produced = bitmap.size() - stream.avail_out;
  const size_t left = stream.avail_in;
  inflateEnd(&stream);

  if (produced > bytes) return InvalidArgument("the mask file holds more than {} bytes", bytes);
  if (result == Z_BUF_ERROR || result == Z_OK) {
    return InvalidArgument("the mask file is cut short");
  }
  if (result != Z_STREAM_END) return InvalidArgument("the mask file is no zlib stream");
  if (left != 0) return InvalidArgument("the mask file goes on behind its zlib stream");
  if (produced != bytes) {
    return InvalidArgument("the mask file holds {} bytes, not {}", produced, bytes);
  }
  bitmap.resize(bytes);
  return bitmap;
}

std::string DeflateMask(std::span<const uint8_t> bitmap) {
  uLongf size = compressBound(bitmap.size());
  std::string stream(size, '\0');
  const int result = compress2(reinterpret_cast<Bytef*>(stream.data()), &size, bitmap.data(),
                               bitmap.size(), Z_BEST_COMPRESSION);
  MONET_CHECK(result == Z_OK);  // the bound is zlib's own
  stream.resize(size);
  return stream;
}

}  // namespace monet
