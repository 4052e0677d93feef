#include "runtime/model/expert_packing.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/bf16.h"

namespace monet {
namespace {

constexpr int32_t kExperts = 3;
constexpr int32_t kUnits = 2;
constexpr int32_t kOutputs = 5;

// Element (row, col) of matrix `id` has a value of its own, exact in bf16 too (8 bits).
float ValueAt(int32_t id, int64_t row, int64_t col) {
  return static_cast<float>(id * 64 + row * 8 + col) / 256.0f;
}

struct HostMatrix {
  std::vector<uint16_t> bf16;
  std::vector<float> f32;
  kernels::Matrix view;

  HostMatrix(int32_t id, int64_t rows, int64_t cols, kernels::DType dtype) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        const float value = ValueAt(id, row, col);
        uint32_t bits = 0;
        std::memcpy(&bits, &value, 4);
        f32.push_back(value);
        bf16.push_back(static_cast<uint16_t>(bits >> 16));
        EXPECT_EQ(kernels::WidenBf16(bf16.back()), value);
      }
    }
    const void* data = dtype == kernels::DType::kBF16 ? static_cast<const void*>(bf16.data())
                                                      : static_cast<const void*>(f32.data());
    view = {.data = data, .dtype = dtype, .rows = rows, .cols = cols};
  }
};

void ExpectPacked(kernels::DType down_dtype, kernels::DType bias_dtype, int32_t parts_count) {
  std::vector<HostMatrix> hosts;
  hosts.reserve(parts_count);
  ExpertDownParts parts{.units = kUnits};
  for (int32_t p = 0; p < parts_count; ++p) {
    hosts.emplace_back(p, kOutputs, kExperts * kUnits, down_dtype);
    parts.down.push_back(hosts.back().view);
  }
  const HostMatrix bias(3, kExperts, kOutputs, bias_dtype);
  parts.bias = bias.view;
  const bool narrow = PackedDType(parts) == kernels::DType::kBF16;
  EXPECT_EQ(narrow, down_dtype == kernels::DType::kBF16 && bias_dtype == kernels::DType::kBF16);
  const size_t rows = parts_count * kUnits + 1;
  ASSERT_EQ(PackedElements(parts), kExperts * rows * kOutputs);
  std::vector<uint16_t> bf16(narrow ? PackedElements(parts) : 0);
  std::vector<float> f32(narrow ? 0 : PackedElements(parts));
  PackExpertDown(parts, narrow ? static_cast<void*>(bf16.data()) : f32.data());
  size_t next = 0;
  const auto take = [&] {
    const size_t i = next++;
    return narrow ? kernels::WidenBf16(bf16[i]) : f32[i];
  };
  for (int32_t e = 0; e < kExperts; ++e) {
    for (int32_t p = 0; p < parts_count; ++p) {
      for (int32_t q = 0; q < kUnits; ++q) {
        for (int32_t n = 0; n < kOutputs; ++n) {
          EXPECT_EQ(take(), ValueAt(p, n, e * kUnits + q)) << e << " " << p << " " << q << " " << n;
        }
      }
    }
    for (int32_t n = 0; n < kOutputs; ++n) EXPECT_EQ(take(), ValueAt(3, e, n));
  }
}

TEST(ExpertPackingTest, AnExpertIsOneStream) {
  using enum kernels::DType;
  for (int32_t parts : {1, 2}) {  // horizontal, vertical
    ExpectPacked(kBF16, kBF16, parts);
    ExpectPacked(kF32, kF32, parts);
    ExpectPacked(kBF16, kF32, parts);
    ExpectPacked(kF32, kBF16, parts);
  }
}

}  // namespace
}  // namespace monet
