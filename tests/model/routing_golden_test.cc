// The active experts that Forward hands out, against the routing of the original PyTorch code for
// every golden folder with it and every backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/policy/routing_pairs.h"
#include "tests/model/checkpoint_files.h"
#include "tests/model/golden_files.h"
#include "tests/model/sequence_runner.h"

namespace monet {
namespace {

using testing::GoldenFile;
using testing::LoadedModel;

constexpr int32_t kTokens = 24;  // of each golden sequence
constexpr double kWeightTolerance = 1e-4;

class RoutingGoldenTest : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  RoutingGoldenTest()
      : golden_(testing::GoldenFolder(std::get<0>(GetParam())) / "golden.safetensors"),
        model_(LoadedModel::Load(testing::GoldenFolder(std::get<0>(GetParam())),
                                 std::get<1>(GetParam()), 2)),
        config_(model_.weights->config()),
        ids_(golden_.Ints("input_ids")),
        none_(ExpertMask::None(testing::ShapeOf(config_))) {
    forward_ = model_.MakeForward({.max_tokens = 2 * kTokens,
                                   .max_logit_rows = 1,
                                   .max_sequences = 2,
                                   .max_context = 32,
                                   .kv_blocks = 16,
                                   .block_size = 4,
                                   .mask_slots = 1,
                                   .shadow_slots = 1});
  }

  // Both golden sequences in one step, with this mask slot.
  StepBatch Batch(int32_t slot) const {
    StepBatch batch;
    batch.token_ids.assign(ids_.begin(), ids_.begin() + 2 * kTokens);
    batch.positions.resize(2 * kTokens);
    for (int32_t t = 0; t < 2 * kTokens; ++t) batch.positions[t] = t % kTokens;
    batch.sequences.assign(kTokens, 0);
    batch.sequences.resize(2 * kTokens, 1);
    batch.mask_slots.assign(2 * kTokens, slot);
    batch.block_tables.resize(12);
    std::iota(batch.block_tables.begin(), batch.block_tables.end(), 1);
    batch.table_stride = 6;
    return batch;
  }

  // All active experts of these rows, by row and router.
  std::vector<TokenActivation> Run(StepBatch batch, std::vector<int32_t> rows,
                                   const ExpertMask& mask) {
    batch.routing_rows = std::move(rows);
    const StepOutput output = forward_->Run(batch);
    removed_.assign(output.removed_weight.begin(), output.removed_weight.end());
    std::vector<TokenActivation> all;
    EXPECT_EQ(output.routing->rows(), std::ssize(batch.routing_rows));
    EXPECT_EQ(output.routing->routers(), config_.Routers());
    for (int32_t n = 0; n < output.routing->rows(); ++n) {
      for (int32_t router = 0; router < config_.Routers(); ++router) {
        all.push_back(
            pairs_.Select(output.routing->At(n, router), router, mask, {.top_n = 1 << 20}));
      }
    }
    return all;
  }

  static std::vector<int32_t> AllRows() {
    std::vector<int32_t> rows(2 * kTokens);
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }

  // Σ_h g1_hi · g2_hj of a row from the golden gates, (E, E); 0 where no head keeps the pair.
  std::vector<double> GoldenWeights(int32_t router, int32_t row) const {
    const std::string prefix = "router." + std::to_string(router) + ".g";
    const std::vector<float> g1 = golden_.Floats(prefix + "1");
    const std::vector<float> g2 = golden_.Floats(prefix + "2");
    const int32_t side = config_.experts;
    std::vector<double> weights(static_cast<size_t>(side) * side);
    for (int32_t h = 0; h < config_.routing_heads; ++h) {
      const size_t list = (static_cast<size_t>(row) * config_.routing_heads + h) * side;
      for (int32_t i = 0; i < side; ++i) {
        for (int32_t j = 0; j < side; ++j) {
          weights[static_cast<size_t>(i) * side + j] += double{g1[list + i]} * g2[list + j];
        }
      }
    }
    return weights;
  }

  GoldenFile golden_;
  LoadedModel model_;
  ModelConfig config_;
  std::vector<int32_t> ids_;
  std::shared_ptr<const ExpertMask> none_;
  std::unique_ptr<Forward> forward_;
  RoutingPairs pairs_;
  std::vector<float> removed_;  // of the last Run
};

TEST_P(RoutingGoldenTest, WeightsAreThoseOfTheOriginalCode) {
  const std::vector<TokenActivation> all = Run(Batch(-1), AllRows(), *none_);
  for (int32_t row = 0; row < 2 * kTokens; row += 5) {
    for (int32_t router = 0; router < config_.Routers(); ++router) {
      const TokenActivation& got = all[static_cast<size_t>(row) * config_.Routers() + router];
      std::vector<double> left = GoldenWeights(router, row);
      const auto active =
          std::count_if(left.begin(), left.end(), [](double weight) { return weight != 0; });
      EXPECT_EQ(got.active_experts, active) << "row " << row << " router " << router;
      double sum = 0;
      for (const ActiveExpert& expert : got.experts) {
        double& golden = left[static_cast<size_t>(expert.i) * config_.experts + expert.j];
        ASSERT_NE(golden, 0);
        EXPECT_NEAR(expert.weight, golden, kWeightTolerance);
        EXPECT_FALSE(expert.removed);
        sum += expert.weight;
        golden = 0;
      }
      EXPECT_NEAR(sum, config_.routing_heads, 1e-4);
      EXPECT_EQ(got.removed_weight, 0);
    }
  }
}

TEST_P(RoutingGoldenTest, RemovedWeightIsWhatTheModelCounts) {
  const auto mask = testing::GoldenMask("random30", config_, golden_);
  forward_->SetMask(0, *mask);
  const std::vector<TokenActivation> all = Run(Batch(0), AllRows(), *mask);
  for (int32_t row = 0; row < 2 * kTokens; ++row) {
    double removed = 0;
    for (int32_t router = 0; router < config_.Routers(); ++router) {
      const TokenActivation& got = all[static_cast<size_t>(row) * config_.Routers() + router];
      double sum = 0;
      double of_removed = 0;
      for (const ActiveExpert& expert : got.experts) {
        EXPECT_EQ(expert.removed, mask->Removes(router, expert.i, expert.j));
        sum += expert.weight;
        if (expert.removed) of_removed += expert.weight;
      }
      // The mask takes nothing from what is told: weights are those before it.
      EXPECT_NEAR(sum, config_.routing_heads, 1e-4);
      EXPECT_NEAR(got.removed_weight, of_removed, 1e-5);
      removed += got.removed_weight;
    }
    EXPECT_GT(removed, 0);
    EXPECT_NEAR(removed, removed_[row], 1e-4);
  }
}

// A shadow is weighed by the routing of the run as it is, and changes nothing of it.
TEST_P(RoutingGoldenTest, AShadowIsWeighedAndRemovesNothing) {
  const auto mask = testing::GoldenMask("random30", config_, golden_);
  StepBatch batch = Batch(-1);
  batch.logit_rows = {2 * kTokens - 1};
  const StepOutput plain = forward_->Run(batch);
  const std::vector<float> logits(plain.logits.begin(), plain.logits.end());
  const std::vector<TokenActivation> all = Run(Batch(-1), AllRows(), *mask);
  forward_->SetMask(1, *mask);
  batch.shadow_slots.assign(2 * kTokens, 1);
  batch.shadow_slots[3] = -1;
  const StepOutput output = forward_->Run(batch);
  EXPECT_TRUE(std::equal(logits.begin(), logits.end(), output.logits.begin()));
  for (int32_t row = 0; row < 2 * kTokens; ++row) {
    EXPECT_EQ(output.removed_weight[row], 0);
    double weight = 0;
    for (int32_t router = 0; router < config_.Routers() && row != 3; ++router) {
      weight += all[static_cast<size_t>(row) * config_.Routers() + router].removed_weight;
    }
    EXPECT_NEAR(output.shadow_weight[row], weight, 1e-4) << "row " << row;
  }
}

TEST_P(RoutingGoldenTest, RowsAreASelection) {
  const std::vector<TokenActivation> all = Run(Batch(-1), AllRows(), *none_);
  for (const std::vector<int32_t>& rows :
       {std::vector<int32_t>{0}, {2 * kTokens - 1}, {3, 4, kTokens, kTokens + 9}}) {
    std::vector<TokenActivation> expected;
    for (int32_t row : rows) {
      const auto first = all.begin() + static_cast<std::ptrdiff_t>(row) * config_.Routers();
      expected.insert(expected.end(), first, first + config_.Routers());
    }
    EXPECT_EQ(Run(Batch(-1), rows, *none_), expected);
  }
  EXPECT_EQ(forward_->Run(Batch(-1)).routing, nullptr);
}

INSTANTIATE_TEST_SUITE_P(
    All, RoutingGoldenTest,
    ::testing::Combine(::testing::Values("vd_tiny", "hd_tiny", "vd_gqa_tied", "hd_odd"),
                       ::testing::Values("reference", "cpu")),
    [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); });

}  // namespace
}  // namespace monet
