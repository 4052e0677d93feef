#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_backend.h"
#include "tests/kernels/expert_fixture.h"
#include "tests/kernels/op_case.h"

namespace monet::kernels::testing {
namespace {

class RouteCase final : public OpCase {
 public:
  RouteCase(int32_t tokens, int32_t hidden, int32_t heads, int32_t experts, DType dtype)
      : tokens_(tokens), hidden_(hidden), heads_(heads), experts_(experts) {
    Rng rng(tokens * 131 + hidden * 7 + experts);
    x_ = Normal(rng, int64_t{tokens} * hidden);
    const double scale = 1 / std::sqrt(static_cast<double>(hidden));
    for (int side = 0; side < 2; ++side) {
      w_[side] = RandomWeight(rng, dtype, int64_t{heads} * experts * hidden, scale);
      for (int32_t h = 0; h < heads; ++h) threshold_[side].push_back(ClearThreshold(side, h));
    }
  }
  std::string Op() const override { return "Route"; }
  std::string Shape() const override {
    return "T=" + std::to_string(tokens_) + " D=" + std::to_string(hidden_) +
           " H=" + std::to_string(heads_) + " E=" + std::to_string(experts_) + " " +
           NameOf(w_[0].dtype);
  }
  int32_t RowCount() const override { return tokens_; }
  Limits NeededLimits() const override {
    return {.max_tokens = tokens_, .hidden = hidden_, .routing_heads = heads_, .experts = experts_};
  }

  // A row's values: gates (2, H, E) with -1 where not kept, counts (2, H), the active indices
  // (2, E) filled up with -1.
  OpOutput Run(Backend& backend, const Rows& rows) const override {
    Device device(backend);
    const int64_t lists = static_cast<int64_t>(rows.size()) * 2 * heads_;
    const int64_t sides = static_cast<int64_t>(rows.size()) * 2;
    const Routing out{.count = device.Fresh<int32_t>(lists),
                      .index = device.Fresh<uint16_t>(lists * experts_),
                      .gate = device.Fresh<float>(lists * experts_),
                      .active_count = device.Fresh<int32_t>(sides),
                      .active = device.Fresh<uint16_t>(sides * experts_)};
    const int64_t w_rows = int64_t{heads_} * experts_;
    backend.Route({.x = device.Put(Gather(x_, hidden_, rows)),
                   .w1 = {PutWeight(device, w_[0]), w_[0].dtype, w_rows, hidden_},
                   .w2 = {PutWeight(device, w_[1]), w_[1].dtype, w_rows, hidden_},
                   .threshold1 = device.Put(threshold_[0]),
                   .threshold2 = device.Put(threshold_[1]),
                   .tokens = static_cast<int32_t>(rows.size()),
                   .routing_heads = heads_,
                   .experts = experts_,
                   .out = out});
    const auto count = device.Get(out.count, lists);
    const auto index = device.Get(out.index, lists * experts_);
    const auto gate = device.Get(out.gate, lists * experts_);
    const auto active_count = device.Get(out.active_count, sides);
    const auto active = device.Get(out.active, sides * experts_);
    OpOutput result{2 * heads_ * (int64_t{experts_} + 1) + 2 * experts_, {}};
    for (int64_t n = 0; n < static_cast<int64_t>(rows.size()); ++n) {
      for (int64_t list = n * 2 * heads_; list < (n + 1) * 2 * heads_; ++list) {
        std::vector<float> dense(experts_, -1);
        for (int64_t k = 0; k < count[list]; ++k) {
          dense.at(index[list * experts_ + k]) = gate[list * experts_ + k];
        }
        result.values.insert(result.values.end(), dense.begin(), dense.end());
        result.values.push_back(static_cast<float>(count[list]));
      }
      for (int64_t side = 2 * n; side < 2 * n + 2; ++side) {
        for (int64_t k = 0; k < experts_; ++k) {
          result.values.push_back(k < active_count[side] ? active[side * experts_ + k] : -1);
        }
      }
    }
    return result;
  }
  std::vector<double> Tolerance(const OpOutput& expected) const override {
    std::vector<double> tolerance;
    for (size_t n = 0; n < expected.values.size(); ++n) {
      const int64_t at = static_cast<int64_t>(n) % expected.width;
      const bool is_gate = at < 2 * heads_ * (int64_t{experts_} + 1) &&
                           at % (experts_ + 1) < experts_ && expected.values[n] >= 0;
      tolerance.push_back(is_gate ? GateRoundings() * kEps : 0.0);
    }
    return tolerance;
  }

 private:
  // |z| stays below 8 for these operands, and 64 bounds Σ|x w|.
  double LogitRoundings() const { return DotRoundings(hidden_) * 64; }
  double GateRoundings() const { return 2 * LogitRoundings() + experts_ / 16.0 + 24; }

  double Logit(int side, int32_t t, int64_t row) const {
    double z = 0;
    for (int64_t d = 0; d < hidden_; ++d) {
      z += double{x_[int64_t{t} * hidden_ + d]} * w_[side].values[row * hidden_ + d];
    }
    return z;
  }
  // A threshold around the upper quarter, as far from every token's logits as can be found, so that
  // rounding cannot change a decision.
  float ClearThreshold(int side, int32_t h) const {
    std::vector<double> z;
    for (int32_t t = 0; t < tokens_; ++t) {
      for (int32_t e = 0; e < experts_; ++e) z.push_back(Logit(side, t, h * experts_ + e));
    }
    double best = 0, margin = -1;
    for (double threshold = 0.4; threshold < 1.2; threshold += 1e-3) {
      double nearest = 1;
      for (const double value : z) nearest = std::min(nearest, std::abs(value - threshold));
      if (nearest > margin) {
        margin = nearest;
        best = threshold;
      }
    }
    EXPECT_GT(margin, LogitRoundings() * kEps) << "choose another shape";
    return static_cast<float>(best);
  }

  int32_t tokens_, hidden_, heads_, experts_;
  std::vector<float> x_;
  WeightData w_[2];
  std::vector<float> threshold_[2];
};

class RemovedWeightCase final : public OpCase {
 public:
  RemovedWeightCase(int32_t tokens, int32_t heads, int32_t experts, int32_t most_kept,
                    MaskKind kind)
      : kind_(kind) {
    Rng rng(tokens * 131 + experts);
    routing_ = RandomRouting(rng, tokens, heads, experts, most_kept);
    masks_ = MakeMask(rng, kind, tokens, experts);
    before_ = Normal(rng, tokens);
  }
  std::string Op() const override { return "RemovedWeight"; }
  std::string Shape() const override {
    return "T=" + std::to_string(routing_.tokens) + " H=" + std::to_string(routing_.heads) +
           " E=" + std::to_string(routing_.experts) + " " + NameOf(kind_);
  }
  int32_t RowCount() const override { return routing_.tokens; }
  Limits NeededLimits() const override {
    return {.max_tokens = routing_.tokens,
            .routing_heads = routing_.heads,
            .experts = routing_.experts};
  }
  OpOutput Run(Backend& backend, const Rows& rows) const override {
    Device device(backend);
    float* removed = device.Put(Gather(before_, 1, rows));
    backend.RemovedWeight({.routing = PutRouting(device, routing_, rows),
                           .masks = PutMask(device, masks_, rows),
                           .router = MaskData::kRouter,
                           .tokens = static_cast<int32_t>(rows.size()),
                           .routing_heads = routing_.heads,
                           .experts = routing_.experts,
                           .removed = removed});
    return {1, device.Get(removed, rows.size())};
  }
  std::vector<double> Tolerance(const OpOutput& expected) const override {
    std::vector<double> tolerance;
    for (size_t t = 0; t < expected.values.size(); ++t) {
      const double roundings = 2 * routing_.experts + 2 * routing_.heads + 2;
      tolerance.push_back((std::abs(before_[t]) + routing_.heads) * roundings * kEps);
    }
    return tolerance;
  }

 private:
  MaskKind kind_;
  RoutingData routing_;
  MaskData masks_;
  std::vector<float> before_;
};

}  // namespace

void AddRoutingCases(CaseList* cases) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    cases->push_back(std::make_unique<RouteCase>(1, 1, 1, 1, dtype));
    cases->push_back(std::make_unique<RouteCase>(3, 20, 2, 7, dtype));
    cases->push_back(std::make_unique<RouteCase>(64, 16, 2, 16, dtype));
    cases->push_back(std::make_unique<RouteCase>(4, 130, 3, 100, dtype));
    cases->push_back(std::make_unique<RouteCase>(2, 64, 2, 512, dtype));
  }
  for (const MaskKind kind :
       {MaskKind::kNone, MaskKind::kEmpty, MaskKind::kRandom30, MaskKind::kAll, MaskKind::kMixed}) {
    cases->push_back(std::make_unique<RemovedWeightCase>(1, 1, 1, 1, kind));
    cases->push_back(std::make_unique<RemovedWeightCase>(12, 3, 11, 5, kind));
    cases->push_back(std::make_unique<RemovedWeightCase>(64, 6, 100, 12, kind));
  }
}

}  // namespace monet::kernels::testing
