#include "tests/kernels/op_case.h"

#include <bit>
#include <numeric>

namespace monet::kernels::testing {

const CaseList& AllCases() {
  static const CaseList* cases = [] {
    auto* list = new CaseList;
    AddDenseCases(list);
    AddAttentionCases(list);
    AddRoutingCases(list);
    AddExpertCases(list);
    return list;
  }();
  return *cases;
}

Rows AllRows(const OpCase& op_case) {
  Rows rows(op_case.RowCount());
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

std::unique_ptr<Backend> Prepared(std::unique_ptr<Backend> backend, const OpCase& op_case) {
  EXPECT_NE(backend, nullptr);
  EXPECT_TRUE(backend->Prepare(op_case.NeededLimits()));
  return backend;
}

std::vector<float> Normal(Rng& rng, size_t count, double scale) {
  std::normal_distribution<double> normal(0.0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(normal(rng));
  return values;
}

int32_t Uniform(Rng& rng, int32_t low, int32_t high) {
  return std::uniform_int_distribution<int32_t>(low, high)(rng);
}

WeightData RandomWeight(Rng& rng, DType dtype, size_t count, double scale) {
  WeightData weight{dtype, Normal(rng, count, scale)};
  if (dtype == DType::kBF16) {
    for (float& value : weight.values) {
      value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000u);
    }
  }
  return weight;
}

const void* PutWeight(Device& device, const WeightData& weight) {
  if (weight.dtype == DType::kF32) return device.Put(weight.values);
  std::vector<uint16_t> halves;
  for (const float value : weight.values) {
    halves.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  }
  return device.Put(halves);
}

}  // namespace monet::kernels::testing
