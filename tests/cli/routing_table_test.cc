#include "cli/routing_table.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "cli/exit_status.h"
#include "runtime/model/safetensors.h"

namespace monet::cli {
namespace {

// The value of a half-precision number, from the format's definition.
double ValueOf(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double value =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 == 1 ? -value : value;
}

TEST(HalfBits, IsTheNearestWithTiesToEven) {
  std::mt19937 random(1);
  for (int n = 0; n < 200000; ++n) {
    // 0 to 1000, small ones and subnormal ones as often as others.
    const float value = std::ldexp(static_cast<float>(random() % 1000000) / 1000, -(n % 40));
    const uint16_t bits = HalfBits(value);
    ASSERT_LT(bits, 0x7C00) << value;
    const double error = std::abs(ValueOf(bits) - value);
    ASSERT_TRUE(bits == 0 || error <= std::abs(ValueOf(bits - 1) - value)) << value;
    ASSERT_LE(error, std::abs(ValueOf(bits + 1) - value)) << value;
  }
  for (int bits = 0; bits < 0x7BFF; ++bits) {  // halfway between two: exact in a float
    const double middle =
        (ValueOf(static_cast<uint16_t>(bits)) + ValueOf(static_cast<uint16_t>(bits + 1))) / 2;
    ASSERT_EQ(HalfBits(static_cast<float>(middle)), bits + (bits & 1));
  }
}

v1::TokenActivation Activation(int32_t position, int32_t router,
                               const std::vector<std::tuple<int, int, float>>& experts) {
  v1::TokenActivation activation;
  activation.set_position(position);
  activation.set_router(router);
  for (const auto& [i, j, weight] : experts) {
    v1::ExpertActivation* expert = activation.add_experts();
    expert->set_i(i);
    expert->set_j(j);
    expert->set_weight(weight);
  }
  return activation;
}

template <typename T>
std::vector<T> Read(const SafetensorsFile& file, const std::string& name, TensorDType dtype) {
  const TensorInfo* info = file.Find(name);
  if (info == nullptr || info->dtype != dtype) return {};
  std::vector<T> values(info->bytes / sizeof(T));
  EXPECT_EQ(info->shape, std::vector<int64_t>{std::ssize(values)});
  EXPECT_TRUE(file.Read(*info, 0, {reinterpret_cast<uint8_t*>(values.data()), info->bytes}).ok());
  return values;
}

TEST(RoutingTable, WritesCoordinatesByRouter) {
  RoutingTable table(3, 4096);
  EXPECT_TRUE(table.Add(0, Activation(0, 0, {{4095, 4094, 1.5f}, {0, 7, 0.25f}})).ok());
  EXPECT_TRUE(table.Add(0, Activation(0, 2, {})).ok());
  EXPECT_TRUE(table.Add(0, Activation(1, 0, {{2, 1, 0.1f}})).ok());
  EXPECT_TRUE(table.Add(1, Activation(0, 2, {{1, 0, 4}})).ok());
  EXPECT_EQ(table.entries(), 4);
  const auto path = std::filesystem::path(testing::TempDir()) / "routing_table.safetensors";
  ASSERT_TRUE(table.Write(path, {{"mask_digest", "sha256:\"x\""}}).ok());

  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << Message(file.status());
  EXPECT_EQ((*file)->tensors().size(), 12u);
  using Ints = std::vector<int32_t>;
  constexpr auto kI32 = TensorDType::kI32;
  EXPECT_EQ(Read<int32_t>(**file, "r0.sequence", kI32), (Ints{0, 0, 0}));
  EXPECT_EQ(Read<int32_t>(**file, "r0.position", kI32), (Ints{0, 0, 1}));
  EXPECT_EQ(Read<int32_t>(**file, "r0.expert", kI32), (Ints{4095 * 4096 + 4094, 7, 2 * 4096 + 1}));
  EXPECT_EQ(Read<uint16_t>(**file, "r0.weight", TensorDType::kF16),
            (std::vector<uint16_t>{0x3E00, 0x3400, 0x2E66}));
  EXPECT_EQ((*file)->Find("r1.weight")->shape, std::vector<int64_t>{0});
  EXPECT_EQ(Read<int32_t>(**file, "r2.sequence", kI32), Ints{1});

  // Readers that map the file need it; r0 has an odd number of entries.
  for (const TensorInfo& tensor : (*file)->tensors()) {
    EXPECT_EQ(tensor.offset % (tensor.dtype == TensorDType::kF16 ? 2 : 4), 0u) << tensor.name;
  }

  std::ifstream stream(path, std::ios::binary);
  uint64_t length = 0;
  stream.read(reinterpret_cast<char*>(&length), 8);
  std::string header(length, ' ');
  stream.read(header.data(), static_cast<std::streamsize>(length));
  const auto metadata = nlohmann::json::parse(header)["__metadata__"];
  EXPECT_EQ(metadata["mask_digest"], "sha256:\"x\"");
  EXPECT_EQ(metadata["experts_per_side"], "4096");
}

TEST(RoutingTable, RefusesWhatTheModelDoesNotHave) {
  RoutingTable table(2, 5);
  for (const v1::TokenActivation& bad :
       {Activation(0, 2, {}), Activation(0, -1, {}), Activation(0, 0, {{5, 0, 1}}),
        Activation(0, 0, {{0, 5, 1}}), Activation(0, 1, {{-1, 0, 1}})}) {
    EXPECT_EQ(ExitCode(table.Add(0, bad)), kExitCallFailed);
  }
}

}  // namespace
}  // namespace monet::cli
