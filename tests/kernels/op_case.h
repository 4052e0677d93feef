// One row of the table that every backend must pass: an operation at one shape with fixed operands.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/device.h"

namespace monet::kernels::testing {

// Which rows of a case's operands make up a step, in order.
using Rows = std::vector<int32_t>;

// Everything that an operation defines for its rows, integers as floats.
struct OpOutput {
  int64_t width = 0;          // values a row
  std::vector<float> values;  // (rows, width)
};

class OpCase {
 public:
  virtual ~OpCase() = default;
  virtual std::string Op() const = 0;     // as in kernels/backend.h
  virtual std::string Shape() const = 0;  // for messages
  virtual int32_t RowCount() const = 0;
  // Room for all rows.
  virtual Limits NeededLimits() const = 0;
  // Runs the operation on some rows. What it must not read is NaN, results lie between sentinels.
  virtual OpOutput Run(Backend& backend, const Rows& rows) const = 0;
  // Largest difference that rounding can explain, for each value of a run of all rows.
  virtual std::vector<double> Tolerance(const OpOutput& expected) const = 0;
};

using CaseList = std::vector<std::unique_ptr<OpCase>>;

void AddDenseCases(CaseList* cases);      // Embed, RmsNorm, MatMul
void AddAttentionCases(CaseList* cases);  // RopeStore, Attention
void AddRoutingCases(CaseList* cases);    // Route, RemovedWeight
void AddExpertCases(CaseList* cases);     // Experts
const CaseList& AllCases();

Rows AllRows(const OpCase& op_case);

// A cpu backend or the reference, ready to run `op_case`.
std::unique_ptr<Backend> Prepared(std::unique_ptr<Backend> backend, const OpCase& op_case);

// Unit roundoff of fp32, doubled: each bound counts roundings and has a factor of two to spare.
inline constexpr double kEps = 0x1p-23;
// Roundings of a "K dense" sum: a lane's chain, the tree of 16, bias or residual.
inline double DotRoundings(int64_t k) { return static_cast<double>((k + 15) / 16) + 6; }

using Rng = std::mt19937_64;
std::vector<float> Normal(Rng& rng, size_t count, double scale = 1.0);
int32_t Uniform(Rng& rng, int32_t low, int32_t high);  // inclusive

// The chosen rows of a (rows, width) array.
template <typename T>
std::vector<T> Gather(const std::vector<T>& from, int64_t width, const Rows& rows) {
  std::vector<T> to;
  for (const int32_t row : rows) {
    to.insert(to.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
  }
  return to;
}

// Weights as values that their dtype can hold.
struct WeightData {
  DType dtype = DType::kF32;
  std::vector<float> values;
};
WeightData RandomWeight(Rng& rng, DType dtype, size_t count, double scale = 1.0);
const void* PutWeight(Device& device, const WeightData& weight);
inline const char* NameOf(DType dtype) { return dtype == DType::kF32 ? "f32" : "bf16"; }

}  // namespace monet::kernels::testing
