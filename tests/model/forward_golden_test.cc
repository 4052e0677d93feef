// Forward against what the original PyTorch code computed on the golden checkpoints, for every
// folder and backend: hidden states, routing, logits, greedy continuations, with every mask.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "tests/model/checkpoint_files.h"
#include "tests/model/golden_files.h"
#include "tests/model/sequence_runner.h"

namespace monet {
namespace {

using testing::ExpectClose;
using testing::GoldenFile;
using testing::LoadedModel;
using testing::TestSequence;

// Of the golden values' standard deviation. The files are fp32 end to end and no decision is near
// its threshold; the rest is the order of fp32 sums.
constexpr double kTolerance = 2e-4;
constexpr double kGateTolerance = 2e-5;  // gates lie in [0, 1]
constexpr int32_t kTokens = 24;          // of each golden sequence
constexpr int32_t kSequences = 2;
constexpr int32_t kBlockSize = 4;
constexpr int32_t kBlocks = 40;

// Collects what one sequence's steps show.
class Recorder : public ForwardObserver {
 public:
  Recorder(int32_t heads, int32_t experts) : heads_(heads), experts_(experts) {}

  void OnHidden(int32_t layer, std::span<const float> hidden) override {
    auto& all = hidden_[layer];
    all.insert(all.end(), hidden.begin(), hidden.end());
  }

  void OnRouting(int32_t router, const kernels::Routing& routing, int32_t tokens) override {
    for (int32_t t = 0; t < tokens; ++t) {
      for (int32_t side = 0; side < 2; ++side) {
        AppendDense(routing, (t * 2 + side) * heads_, &gates_[{router, side}]);
        CheckActive(routing, t * 2 + side);
      }
    }
  }

  const std::vector<float>& hidden(int32_t layer) { return hidden_[layer]; }
  const std::vector<float>& gates(int32_t router, int32_t side) { return gates_[{router, side}]; }

 private:
  // The lists of H heads as (H, E) with zeros elsewhere.
  void AppendDense(const kernels::Routing& routing, int32_t first, std::vector<float>* out) {
    for (int32_t list = first; list < first + heads_; ++list) {
      std::vector<float> dense(experts_, 0.0f);
      for (int32_t n = 0; n < routing.count[list]; ++n) {
        dense[routing.index[list * experts_ + n]] = routing.gate[list * experts_ + n];
      }
      out->insert(out->end(), dense.begin(), dense.end());
    }
  }

  // The union of the heads' lists, ascending.
  void CheckActive(const kernels::Routing& routing, int32_t side) {
    std::vector<uint16_t> expected;
    for (int32_t list = side * heads_; list < (side + 1) * heads_; ++list) {
      const uint16_t* index = routing.index + list * experts_;
      expected.insert(expected.end(), index, index + routing.count[list]);
    }
    std::sort(expected.begin(), expected.end());
    expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
    const uint16_t* active = routing.active + side * experts_;
    EXPECT_EQ(expected, std::vector<uint16_t>(active, active + routing.active_count[side]));
  }

  int32_t heads_;
  int32_t experts_;
  std::map<int32_t, std::vector<float>> hidden_;
  std::map<std::pair<int32_t, int32_t>, std::vector<float>> gates_;
};

class GoldenTest : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  GoldenTest()
      : golden_(testing::GoldenFolder(std::get<0>(GetParam())) / "golden.safetensors"),
        model_(LoadedModel::Load(testing::GoldenFolder(std::get<0>(GetParam())),
                                 std::get<1>(GetParam()), 2)),
        config_(model_.weights->config()),
        ids_(golden_.Ints("input_ids")) {
    forward_ = model_.MakeForward({.max_tokens = kTokens,
                                   .max_logit_rows = kTokens,
                                   .max_sequences = 4,
                                   .max_context = 64,
                                   .kv_blocks = kBlocks,
                                   .block_size = kBlockSize,
                                   .mask_slots = 3});
  }

  TestSequence Sequence(int32_t row, int32_t tokens, int32_t slot) {
    const auto begin = ids_.begin() + row * kTokens;
    return {.ids = std::vector<int32_t>(begin, begin + tokens),
            .mask_slot = slot,
            .blocks = testing::ShuffledBlocks(kBlocks, 16, 7 + row)};
  }

  // The last rows of what both sequences gave, as many as the golden tensor keeps. `all` holds
  // (kSequences, kTokens, width).
  std::vector<float> Kept(const std::vector<float>& all, const std::vector<int64_t>& shape) {
    const size_t width = all.size() / (kSequences * kTokens);
    const size_t kept = shape[1];
    std::vector<float> out;
    for (int32_t s = 0; s < kSequences; ++s) {
      const auto end = all.begin() + (s + 1) * kTokens * width;
      out.insert(out.end(), end - kept * width, end);
    }
    return out;
  }

  void ExpectGolden(const std::vector<float>& all, const std::string& name) {
    const std::vector<float> golden = golden_.Floats(name);
    const std::vector<float> kept = Kept(all, golden_.Shape(name));
    ExpectClose(kept, golden, kTolerance * testing::StandardDeviation(golden), name);
  }

  std::vector<float> Logits(int32_t slot, int32_t chunk) {
    std::vector<float> all;
    for (int32_t row = 0; row < kSequences; ++row) {
      TestSequence sequence = Sequence(row, kTokens, slot);
      const auto step = testing::RunToEnd(forward_.get(), &sequence, chunk);
      all.insert(all.end(), step.logits.begin(), step.logits.end());
    }
    return all;
  }

  std::vector<int32_t> Greedy(int32_t slot, size_t count) {
    TestSequence sequence = Sequence(0, 8, slot);
    return testing::Greedy(forward_.get(), &sequence, static_cast<int32_t>(count));
  }

  std::vector<std::string> MaskNames() const {
    std::vector<std::string> names;
    for (const char* name : {"random30", "rows", "all"}) {
      if (golden_.Has(std::string("masked.") + name + ".logits")) names.push_back(name);
    }
    return names;
  }

  GoldenFile golden_;
  LoadedModel model_;
  ModelConfig config_;
  std::vector<int32_t> ids_;
  std::unique_ptr<Forward> forward_;
};

TEST_P(GoldenTest, HiddenStatesRoutingAndLogits) {
  Recorder recorder(config_.routing_heads, config_.experts);
  forward_->set_observer(&recorder);
  ExpectGolden(Logits(-1, kTokens), "logits");
  for (int32_t layer = 0; layer <= config_.layers; ++layer) {
    ExpectGolden(recorder.hidden(layer), "hidden." + std::to_string(layer));
  }
  for (int32_t router = 0; router < config_.Routers(); ++router) {
    for (int32_t side = 0; side < 2; ++side) {
      const std::string name = "router." + std::to_string(router) + ".g" + std::to_string(side + 1);
      if (config_.experts > 64) {
        EXPECT_FALSE(golden_.Has(name));
        continue;
      }
      const std::vector<float> golden = golden_.Floats(name);
      const std::vector<float>& gates = recorder.gates(router, side);
      ExpectClose(gates, golden, kGateTolerance, name);
      for (size_t i = 0; i < golden.size(); ++i) {
        ASSERT_EQ(gates[i] != 0, golden[i] != 0) << name << " kept set at " << i;
      }
    }
  }
}

TEST_P(GoldenTest, Greedy) {
  const std::vector<int32_t> golden = golden_.Ints("greedy");
  EXPECT_EQ(Greedy(-1, golden.size()), golden);
}

TEST_P(GoldenTest, Masks) {
  const std::vector<std::string> names = MaskNames();
  ASSERT_GE(names.size(), 2u);
  for (size_t slot = 0; slot < names.size(); ++slot) {
    forward_->SetMask(slot, *testing::GoldenMask(names[slot], config_, golden_));
  }
  for (size_t slot = 0; slot < names.size(); ++slot) {
    const std::string prefix = "masked." + names[slot];
    SCOPED_TRACE(prefix);
    ExpectGolden(Logits(slot, 5), prefix + ".logits");
    const std::vector<int32_t> golden = golden_.Ints(prefix + ".greedy");
    EXPECT_EQ(Greedy(slot, golden.size()), golden);
  }
}

// Removing every expert removes all routing weight, and removing none removes nothing.
TEST_P(GoldenTest, RemovedWeight) {
  forward_->SetMask(0, *testing::GoldenMask("all", config_, golden_));
  forward_->SetMask(1, *ExpertMask::None(testing::ShapeOf(config_)));
  const double whole = forward_->routing_weight_per_token();
  EXPECT_EQ(whole, config_.Routers() * config_.routing_heads);
  for (const auto& [slot, expected] : std::map<int32_t, double>{{0, whole}, {1, 0}, {-1, 0}}) {
    TestSequence sequence = Sequence(0, kTokens, slot);
    const auto step = testing::RunToEnd(forward_.get(), &sequence, 8);
    ASSERT_EQ(step.removed.size(), static_cast<size_t>(kTokens));
    for (float removed : step.removed) EXPECT_NEAR(removed, expected, 1e-4 * whole);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, GoldenTest,
    ::testing::Combine(::testing::Values("vd_tiny", "hd_tiny", "vd_gqa_tied", "hd_odd", "vd_262144",
                                         "hd_262144", "vd_bf16"),
                       ::testing::Values("reference", "cpu")),
    [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); });

}  // namespace
}  // namespace monet
