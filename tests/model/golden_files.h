// The outputs of the original code that lie beside the golden checkpoints.
#pragma once

#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/model/config.h"
#include "runtime/model/safetensors.h"
#include "runtime/policy/expert_mask.h"

namespace monet::testing {

class GoldenFile {
 public:
  explicit GoldenFile(const std::filesystem::path& path);

  bool Has(const std::string& name) const { return file_->Find(name) != nullptr; }
  std::vector<int64_t> Shape(const std::string& name) const { return Info(name).shape; }
  std::vector<float> Floats(const std::string& name) const { return Values<float>(name); }
  std::vector<int32_t> Ints(const std::string& name) const { return Values<int32_t>(name); }
  std::vector<uint8_t> Bytes(const std::string& name) const { return Values<uint8_t>(name); }

 private:
  const TensorInfo& Info(const std::string& name) const;

  template <typename T>
  std::vector<T> Values(const std::string& name) const {
    const TensorInfo& info = Info(name);
    std::vector<T> values(info.bytes / sizeof(T));
    ReadInto(info, {reinterpret_cast<uint8_t*>(values.data()), info.bytes});
    return values;
  }
  void ReadInto(const TensorInfo& info, std::span<uint8_t> out) const;

  std::unique_ptr<SafetensorsFile> file_;
};

MaskShape ShapeOf(const ModelConfig& config);

// The masks of the golden files: "rows", "all" by their rule; others from `file`.
std::shared_ptr<const ExpertMask> GoldenMask(const std::string& name, const ModelConfig& config,
                                             const GoldenFile& file);

double StandardDeviation(std::span<const float> values);

// Fails when a value differs from the golden one by more than `tolerance`, or is not finite; names
// the worst index.
void ExpectClose(std::span<const float> actual, std::span<const float> golden, double tolerance,
                 const std::string& what);

}  // namespace monet::testing
