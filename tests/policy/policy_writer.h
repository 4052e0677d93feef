// Writes policy files and mask files for tests.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/policy/expert_mask.h"

namespace monet::testing {

inline std::string Compress(std::string_view bytes) {
  uLongf size = compressBound(bytes.size());
  std::string out(size, '\0');
  EXPECT_EQ(compress2(reinterpret_cast<Bytef*>(out.data()), &size,
                      reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), 9),
            Z_OK);
  out.resize(size);
  return out;
}

inline std::string Compress(const std::vector<uint8_t>& bytes) {
  return Compress(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

inline std::string HexSha256(const std::vector<uint8_t>& bytes) {
  return Sha256(bytes).ToString().substr(7);
}

inline Digest ModelDigest(uint8_t byte) {
  Digest digest;
  digest.bytes.fill(byte);
  return digest;
}

// A bitmap with about `percent` of the experts removed, padding 0.
inline std::vector<uint8_t> RandomBitmap(MaskShape shape, int percent, std::mt19937& random) {
  std::vector<uint8_t> bitmap(shape.Bytes());
  for (int32_t r = 0; r < shape.routers; ++r) {
    for (int32_t e = 0; e < shape.experts * shape.experts; ++e) {
      if (static_cast<int>(random() % 100) < percent) {
        bitmap[r * shape.BytesPerRouter() + e / 8] |= static_cast<uint8_t>(1 << e % 8);
      }
    }
  }
  return bitmap;
}

// A policy file, one key a line. Change a field, then Text().
struct PolicyText {
  std::string name = "no-test";
  std::string version = "1";
  std::string model = ModelDigest(1).ToString();
  MaskShape shape{2, 3};
  std::string experts = "{inline: [{router: 0, ids: [4]}]}";

  std::string Text() const {
    return "format: 1\nname: " + name + "\nversion: " + version + "\nmodel: " + model +
           "\nsemantics: zero\nrouters: " + std::to_string(shape.routers) +
           "\nexperts_per_side: " + std::to_string(shape.experts) + "\nexperts: " + experts + "\n";
  }
};

// A folder that vanishes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "monet-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void Write(const std::filesystem::path& file, std::string_view bytes) const {
    std::filesystem::create_directories((path_ / file).parent_path());
    std::ofstream out(path_ / file, std::ios::binary);
    out << bytes;
    EXPECT_TRUE(out.flush()) << file;
  }

  // name/version.yaml and name/version.mask of a bitmap.
  void WritePolicy(PolicyText text, const std::vector<uint8_t>& bitmap) const {
    text.experts = "{file: " + text.version + ".mask, sha256: " + HexSha256(bitmap) + "}";
    Write(text.name + "/" + text.version + ".yaml", text.Text());
    Write(text.name + "/" + text.version + ".mask", Compress(bitmap));
  }

 private:
  std::filesystem::path path_;
};

}  // namespace monet::testing
