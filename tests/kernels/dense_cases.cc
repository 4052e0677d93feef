#include <cmath>
#include <limits>

#include "tests/kernels/op_case.h"

namespace monet::kernels::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

class EmbedCase final : public OpCase {
 public:
  EmbedCase(int32_t tokens, int32_t vocabulary, int32_t hidden, DType dtype)
      : vocabulary_(vocabulary), hidden_(hidden) {
    Rng rng(tokens * 131 + hidden);
    table_ = RandomWeight(rng, dtype, int64_t{vocabulary} * hidden);
    for (int32_t t = 0; t < tokens; ++t) ids_.push_back(Uniform(rng, 0, vocabulary - 1));
    ids_.front() = vocabulary - 1;
  }
  std::string Op() const override { return "Embed"; }
  std::string Shape() const override {
    return "T=" + std::to_string(ids_.size()) + " V=" + std::to_string(vocabulary_) +
           " D=" + std::to_string(hidden_) + " " + NameOf(table_.dtype);
  }
  int32_t RowCount() const override { return static_cast<int32_t>(ids_.size()); }
  Limits NeededLimits() const override { return {.max_tokens = RowCount(), .hidden = hidden_}; }

  OpOutput Run(Backend& backend, const Rows& rows) const override {
    Device device(backend);
    float* out = device.Fresh<float>(rows.size() * hidden_);
    backend.Embed({.table = {PutWeight(device, table_), table_.dtype, vocabulary_, hidden_},
                   .ids = device.Put(Gather(ids_, 1, rows)),
                   .tokens = static_cast<int32_t>(rows.size()),
                   .out = out});
    return {hidden_, device.Get(out, rows.size() * hidden_)};
  }
  std::vector<double> Tolerance(const OpOutput& expected) const override {
    return std::vector<double>(expected.values.size(), 0.0);
  }

 private:
  int32_t vocabulary_;
  int32_t hidden_;
  WeightData table_;
  std::vector<int32_t> ids_;
};

class RmsNormCase final : public OpCase {
 public:
  // With a row list the operand has more rows than the step, NaN in those not listed.
  RmsNormCase(int32_t tokens, int32_t hidden, bool row_list, double scale)
      : tokens_(tokens), hidden_(hidden), row_list_(row_list) {
    Rng rng(tokens * 131 + hidden);
    x_ = Normal(rng, int64_t{tokens} * hidden, scale);
    weight_ = Normal(rng, hidden);
  }
  std::string Op() const override { return "RmsNorm"; }
  std::string Shape() const override {
    return "T=" + std::to_string(tokens_) + " D=" + std::to_string(hidden_) +
           (row_list_ ? " row list" : "");
  }
  int32_t RowCount() const override { return tokens_; }
  Limits NeededLimits() const override { return {.max_tokens = tokens_, .hidden = hidden_}; }

  OpOutput Run(Backend& backend, const Rows& rows) const override {
    Device device(backend);
    std::vector<float> x = Gather(x_, hidden_, rows);
    std::vector<int32_t> list;
    if (row_list_) {
      std::vector<float> spread(2 * x_.size(), kNaN);
      for (size_t n = 0; n < rows.size(); ++n) {
        list.push_back(2 * rows[n] + 1);
        std::copy_n(x.begin() + n * hidden_, hidden_, spread.begin() + list[n] * hidden_);
      }
      x = spread;
    }
    float* out = device.Fresh<float>(rows.size() * hidden_);
    backend.RmsNorm({.x = device.Put(x),
                     .rows = row_list_ ? device.Put(list) : nullptr,
                     .weight = device.Put(weight_),
                     .eps = 1e-6f,
                     .tokens = static_cast<int32_t>(rows.size()),
                     .hidden = hidden_,
                     .out = out});
    return {hidden_, device.Get(out, rows.size() * hidden_)};
  }
  std::vector<double> Tolerance(const OpOutput& expected) const override {
    std::vector<double> tolerance;
    for (const float value : expected.values) {
      tolerance.push_back(std::abs(value) * kEps * (DotRoundings(hidden_) + 6));
    }
    return tolerance;
  }

 private:
  int32_t tokens_;
  int32_t hidden_;
  bool row_list_;
  std::vector<float> x_;
  std::vector<float> weight_;
};

enum class Residual { kNone, kSeparate, kInPlace };

class MatMulCase final : public OpCase {
 public:
  MatMulCase(int32_t tokens, int32_t k, int32_t n, DType dtype, Residual residual)
      : tokens_(tokens), k_(k), n_(n), residual_kind_(residual) {
    Rng rng(tokens * 131 + k * 7 + n);
    x_ = Normal(rng, int64_t{tokens} * k);
    weight_ = RandomWeight(rng, dtype, int64_t{n} * k, 0.3);
    residual_ = Normal(rng, int64_t{tokens} * n);
  }
  std::string Op() const override { return "MatMul"; }
  std::string Shape() const override {
    const char* kinds[] = {"", " residual", " residual in place"};
    return "T=" + std::to_string(tokens_) + " K=" + std::to_string(k_) +
           " N=" + std::to_string(n_) + " " + NameOf(weight_.dtype) +
           kinds[static_cast<int>(residual_kind_)];
  }
  int32_t RowCount() const override { return tokens_; }
  Limits NeededLimits() const override { return {.max_tokens = tokens_, .hidden = k_}; }

  OpOutput Run(Backend& backend, const Rows& rows) const override {
    Device device(backend);
    const std::vector<float> residual = Gather(residual_, n_, rows);
    const size_t count = rows.size() * n_;
    float* out =
        residual_kind_ == Residual::kInPlace ? device.Put(residual) : device.Fresh<float>(count);
    const float* added = residual_kind_ == Residual::kNone       ? nullptr
                         : residual_kind_ == Residual::kSeparate ? device.Put(residual)
                                                                 : out;
    backend.MatMul({.x = device.Put(Gather(x_, k_, rows)),
                    .weight = {PutWeight(device, weight_), weight_.dtype, n_, k_},
                    .residual = added,
                    .tokens = static_cast<int32_t>(rows.size()),
                    .out = out});
    return {n_, device.Get(out, count)};
  }
  std::vector<double> Tolerance(const OpOutput&) const override {
    std::vector<double> tolerance;
    for (int64_t t = 0; t < tokens_; ++t) {
      for (int64_t n = 0; n < n_; ++n) {
        double sum = residual_kind_ == Residual::kNone ? 0 : std::abs(residual_[t * n_ + n]);
        for (int64_t k = 0; k < k_; ++k) {
          sum += std::abs(double{x_[t * k_ + k]} * weight_.values[n * k_ + k]);
        }
        tolerance.push_back(sum * kEps * DotRoundings(k_));
      }
    }
    return tolerance;
  }

 private:
  int32_t tokens_;
  int32_t k_;
  int32_t n_;
  Residual residual_kind_;
  std::vector<float> x_;
  WeightData weight_;
  std::vector<float> residual_;
};

}  // namespace

void AddDenseCases(CaseList* cases) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int32_t hidden : {1, 16, 33}) {
      cases->push_back(std::make_unique<EmbedCase>(5, 11, hidden, dtype));
    }
    for (const int32_t k : {1, 15, 16, 17, 48, 131}) {
      for (const int32_t n : {1, 3, 8, 13}) {
        cases->push_back(std::make_unique<MatMulCase>(1, k, n, dtype, Residual::kNone));
        cases->push_back(std::make_unique<MatMulCase>(7, k, n, dtype, Residual::kSeparate));
      }
    }
    cases->push_back(std::make_unique<MatMulCase>(64, 48, 37, dtype, Residual::kInPlace));
    cases->push_back(std::make_unique<MatMulCase>(3, 768, 200, dtype, Residual::kInPlace));
    cases->push_back(std::make_unique<MatMulCase>(2, 2048, 65, dtype, Residual::kNone));
  }
  for (const int32_t hidden : {1, 17, 64, 515}) {
    cases->push_back(std::make_unique<RmsNormCase>(1, hidden, false, 1.0));
    cases->push_back(std::make_unique<RmsNormCase>(64, hidden, false, 30.0));
    cases->push_back(std::make_unique<RmsNormCase>(6, hidden, true, 1e-4));
  }
}

}  // namespace monet::kernels::testing
