#include "tests/model/golden_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

namespace monet::testing {

GoldenFile::GoldenFile(const std::filesystem::path& path) {
  auto file = SafetensorsFile::Open(path);
  if (!file.ok()) {
    ADD_FAILURE() << path << ": " << file.status().ToString();
    std::abort();
  }
  file_ = *std::move(file);
}

const TensorInfo& GoldenFile::Info(const std::string& name) const {
  const TensorInfo* info = file_->Find(name);
  if (info == nullptr) {
    ADD_FAILURE() << "no golden tensor " << name;
    std::abort();
  }
  return *info;
}

void GoldenFile::ReadInto(const TensorInfo& info, std::span<uint8_t> out) const {
  const absl::Status status = file_->Read(info, 0, out);
  ASSERT_TRUE(status.ok()) << status.ToString();
}

MaskShape ShapeOf(const ModelConfig& config) {
  return {.routers = config.Routers(), .experts = config.experts};
}

std::shared_ptr<const ExpertMask> GoldenMask(const std::string& name, const ModelConfig& config,
                                             const GoldenFile& file) {
  const MaskShape shape = ShapeOf(config);
  const std::string stored = "masked." + name + ".removed";
  if (file.Has(stored)) {
    auto mask = ExpertMask::FromBitmap(shape, file.Bytes(stored));
    EXPECT_TRUE(mask.ok()) << mask.status().ToString();
    return *mask;
  }
  MaskBuilder builder(shape);
  const int32_t rows = name == "all" ? shape.experts : shape.experts / 3;
  for (int32_t router = 0; router < shape.routers; ++router) {
    for (int32_t i = 0; i < rows; ++i) EXPECT_TRUE(builder.AddRow(router, i).ok());
  }
  if (name == "rows") {
    for (int32_t j = shape.experts / 2; j < shape.experts; ++j) {
      EXPECT_TRUE(builder.AddColumn(shape.routers - 1, j).ok());
    }
  }
  return std::move(builder).Build();
}

double StandardDeviation(std::span<const float> values) {
  double sum = 0;
  double squares = 0;
  for (float value : values) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const double mean = sum / values.size();
  return std::sqrt(squares / values.size() - mean * mean);
}

void ExpectClose(std::span<const float> actual, std::span<const float> golden, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), golden.size()) << what;
  double worst = -1;
  size_t worst_index = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual[i])) << what << " at " << i;
    const double difference = std::abs(static_cast<double>(actual[i]) - golden[i]);
    if (difference > worst) {
      worst = difference;
      worst_index = i;
    }
  }
  EXPECT_LE(worst, tolerance) << what << " at " << worst_index << ": " << actual[worst_index]
                              << " for " << golden[worst_index];
}

}  // namespace monet::testing
