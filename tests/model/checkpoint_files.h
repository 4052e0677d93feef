// Checkpoints that a test can damage: read from the committed golden folders, changed in memory,
// written into a temporary folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/model/safetensors.h"

namespace monet::testing {

// A folder that is removed with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::filesystem::path GoldenFolder(const std::string& name);  // tests/data/golden/NAME
std::filesystem::path DemoFolder();                           // models/demo

std::string ReadText(const std::filesystem::path& path);
void WriteText(const std::filesystem::path& path, std::string_view text);

struct OwnedTensor {
  TensorDType dtype = TensorDType::kF32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;

  static OwnedTensor Floats(std::vector<int64_t> shape, const std::vector<float>& values);
};

struct CheckpointFiles {
  std::string config;
  std::map<std::string, OwnedTensor> tensors;

  static CheckpointFiles Read(const std::filesystem::path& directory);

  // Replaces the value of a key of config.json (`value` is JSON); adds the key when it is absent.
  void SetConfig(const std::string& key, const std::string& value);

  // config.json and model.safetensors.
  void Write(const std::filesystem::path& directory) const;
  // config.json, `shards` files (tensors dealt in turn) and the index.
  void WriteShards(const std::filesystem::path& directory, int shards) const;
};

}  // namespace monet::testing
