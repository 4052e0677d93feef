#include "tests/model/checkpoint_files.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace monet::testing {
namespace {

std::vector<TensorToWrite> ToWrite(const std::map<std::string, OwnedTensor>& tensors) {
  std::vector<TensorToWrite> out;
  for (const auto& [name, tensor] : tensors) {
    out.push_back(
        {.name = name, .dtype = tensor.dtype, .shape = tensor.shape, .bytes = tensor.bytes});
  }
  return out;
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = ::testing::TempDir() + "monet-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) std::abort();
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path GoldenFolder(const std::string& name) {
  return std::filesystem::path(MONET_SOURCE_DIR) / "tests" / "data" / "golden" / name;
}

std::filesystem::path DemoFolder() {
  return std::filesystem::path(MONET_SOURCE_DIR) / "models" / "demo";
}

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void WriteText(const std::filesystem::path& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  EXPECT_TRUE(out.good()) << path;
}

OwnedTensor OwnedTensor::Floats(std::vector<int64_t> shape, const std::vector<float>& values) {
  OwnedTensor tensor{.shape = std::move(shape)};
  tensor.bytes.resize(values.size() * sizeof(float));
  std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

CheckpointFiles CheckpointFiles::Read(const std::filesystem::path& directory) {
  CheckpointFiles files{.config = ReadText(directory / "config.json")};
  const auto opened = SafetensorsFile::Open(directory / "model.safetensors");
  if (!opened.ok()) {
    ADD_FAILURE() << opened.status().ToString();
    return files;
  }
  for (const TensorInfo& info : (*opened)->tensors()) {
    OwnedTensor tensor{.dtype = info.dtype, .shape = info.shape};
    tensor.bytes.resize(info.bytes);
    EXPECT_TRUE((*opened)->Read(info, 0, tensor.bytes).ok());
    files.tensors.emplace(info.name, std::move(tensor));
  }
  return files;
}

void CheckpointFiles::SetConfig(const std::string& key, const std::string& value) {
  auto json = nlohmann::json::parse(config);
  json[key] = nlohmann::json::parse(value);
  config = json.dump();
}

void CheckpointFiles::Write(const std::filesystem::path& directory) const {
  WriteText(directory / "config.json", config);
  const absl::Status written = WriteSafetensors(directory / "model.safetensors", ToWrite(tensors));
  EXPECT_TRUE(written.ok()) << written.ToString();
}

void CheckpointFiles::WriteShards(const std::filesystem::path& directory, int shards) const {
  WriteText(directory / "config.json", config);
  std::vector<std::map<std::string, OwnedTensor>> parts(shards);
  nlohmann::json index;
  const auto file_name = [shards](int shard) {
    return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
  };
  int next = 0;
  for (const auto& [name, tensor] : tensors) {
    const int shard = next++ % shards;
    parts[shard].emplace(name, tensor);
    index["weight_map"][name] = file_name(shard);
  }
  index["metadata"]["total_size"] = 0;
  for (int shard = 0; shard < shards; ++shard) {
    const auto written = WriteSafetensors(directory / file_name(shard), ToWrite(parts[shard]));
    EXPECT_TRUE(written.ok()) << written.ToString();
  }
  WriteText(directory / "model.safetensors.index.json", index.dump());
}

}  // namespace monet::testing
