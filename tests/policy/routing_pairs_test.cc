#include "runtime/policy/routing_pairs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace monet {
namespace {

// Gates of every index and whether it is kept: the plain form, (2, H, E).
struct Plain {
  int32_t heads = 0;
  int32_t experts = 0;
  std::vector<bool> kept;
  std::vector<float> gate;

  size_t At(int side, int32_t head, int32_t index) const {
    return (static_cast<size_t>(side) * heads + head) * experts + index;
  }
};

// `steps`: gates are multiples of 1 / steps, so that few give many equal weights.
Plain RandomPlain(int32_t heads, int32_t experts, int steps, std::mt19937* random) {
  Plain plain{.heads = heads, .experts = experts};
  const size_t size = size_t{2} * heads * experts;
  const uint32_t share = 1 + (*random)() % 4;
  for (size_t n = 0; n < size; ++n) {
    plain.kept.push_back((*random)() % 4 < share);
    plain.gate.push_back(static_cast<float>((*random)() % steps) / static_cast<float>(steps));
  }
  // At least one index of a list is always kept.
  for (int side = 0; side < 2; ++side) {
    for (int32_t h = 0; h < heads; ++h) {
      plain.kept[plain.At(side, h, static_cast<int32_t>((*random)() % experts))] = true;
    }
  }
  return plain;
}

// As a backend leaves it, with rubbish after each list.
void AddTo(const Plain& plain, RoutingRows* rows) {
  std::vector<int32_t> count;
  std::vector<uint16_t> index(plain.gate.size(), 60000);
  std::vector<float> gate(plain.gate.size(), 1e30f);
  for (int list = 0; list < 2 * plain.heads; ++list) {
    int32_t kept = 0;
    for (int32_t n = 0; n < plain.experts; ++n) {
      const size_t at = static_cast<size_t>(list) * plain.experts + n;
      if (!plain.kept[at]) continue;
      index[static_cast<size_t>(list) * plain.experts + kept] = static_cast<uint16_t>(n);
      gate[static_cast<size_t>(list) * plain.experts + kept] = plain.gate[at];
      ++kept;
    }
    count.push_back(kept);
  }
  rows->Add(count, index, gate, plain.experts);
}

// All E² pairs, one after the other; then a sort of all that are active.
TokenActivation AllPairs(const Plain& plain, int32_t router, const ExpertMask& mask,
                         const RoutingSelection& selection) {
  TokenActivation result{.router = router};
  double removed = 0;
  for (int32_t i = 0; i < plain.experts; ++i) {
    for (int32_t j = 0; j < plain.experts; ++j) {
      double weight = 0;
      bool active = false;
      for (int32_t h = 0; h < plain.heads; ++h) {
        if (!plain.kept[plain.At(0, h, i)] || !plain.kept[plain.At(1, h, j)]) continue;
        active = true;
        weight += double{plain.gate[plain.At(0, h, i)]} * plain.gate[plain.At(1, h, j)];
      }
      if (!active) continue;
      ++result.active_experts;
      if (mask.Removes(router, i, j)) removed += weight;
      if (static_cast<float>(weight) >= selection.min_weight) {
        result.experts.push_back({static_cast<uint16_t>(i), static_cast<uint16_t>(j),
                                  static_cast<float>(weight), mask.Removes(router, i, j)});
      }
    }
  }
  std::stable_sort(result.experts.begin(), result.experts.end(),
                   [](const auto& a, const auto& b) { return a.weight > b.weight; });
  result.experts.resize(std::min(result.experts.size(), static_cast<size_t>(selection.top_n)));
  result.removed_weight = static_cast<float>(removed);
  return result;
}

std::shared_ptr<const ExpertMask> RandomMask(MaskShape shape, std::mt19937* random) {
  MaskBuilder builder(shape);
  for (auto n = (*random)() % (2 * shape.experts * shape.experts); n > 0; --n) {
    const auto expert = (*random)() % (shape.experts * shape.experts);
    EXPECT_TRUE(builder.AddExpert(static_cast<int32_t>((*random)() % shape.routers), expert).ok());
  }
  return std::move(builder).Build();
}

TEST(RoutingPairs, AgreesWithAPlainLoopOverAllPairs) {
  RoutingPairs pairs;  // one for all, as in the engine: nothing may stay from a row before
  int ties = 0;
  int cut = 0;
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto heads = static_cast<int32_t>(1 + random() % 5);
    const auto experts = static_cast<int32_t>(1 + random() % 19);
    const int32_t routers = 2;
    const int32_t count = 3;
    const int steps = seed % 2 == 0 ? 4 : 1 << 20;
    const auto mask = RandomMask({routers, experts}, &random);
    std::vector<Plain> plain;
    RoutingRows rows;
    rows.Begin(count, heads);
    for (int32_t n = 0; n < routers * count; ++n) {
      plain.push_back(RandomPlain(heads, experts, steps, &random));
      AddTo(plain.back(), &rows);
    }
    ASSERT_EQ(rows.routers(), routers);
    for (int32_t router = 0; router < routers; ++router) {
      for (int32_t row = 0; row < count; ++row) {
        const RoutingSelection selection{.top_n = static_cast<int32_t>(1 + random() % 40),
                                         .min_weight = random() % 3 == 0 ? 0.3 : 0};
        const TokenActivation want =
            AllPairs(plain[router * count + row], router, *mask, selection);
        const TokenActivation got = pairs.Select(rows.At(row, router), router, *mask, selection);
        EXPECT_EQ(got.experts, want.experts);
        EXPECT_EQ(got.active_experts, want.active_experts);
        EXPECT_EQ(got.router, want.router);
        EXPECT_NEAR(got.removed_weight, want.removed_weight, 1e-6 * heads);
        cut += static_cast<int>(want.experts.size()) < want.active_experts;
        for (size_t n = 1; n < want.experts.size(); ++n) {
          ties += want.experts[n].weight == want.experts[n - 1].weight;
        }
      }
    }
  }
  EXPECT_GE(ties, 500);
  EXPECT_GE(cut, 500);
}

TEST(RoutingPairs, TheWeightsOfAllPairsSumToTheHeads) {
  std::mt19937 random(7);
  const int32_t heads = 4;
  Plain plain = RandomPlain(heads, 12, 1000, &random);
  for (int list = 0; list < 2 * heads; ++list) {
    double sum = 0;
    for (int32_t n = 0; n < 12; ++n) {
      const size_t at = static_cast<size_t>(list) * 12 + n;
      plain.gate[at] += 0.01f;
      if (plain.kept[at]) sum += plain.gate[at];
    }
    for (int32_t n = 0; n < 12; ++n) {
      const size_t at = static_cast<size_t>(list) * 12 + n;
      plain.gate[at] = static_cast<float>(plain.gate[at] / sum);
    }
  }
  RoutingRows rows;
  rows.Begin(1, heads);
  AddTo(plain, &rows);
  MaskBuilder everything({1, 12});
  for (int64_t i = 0; i < 12; ++i) ASSERT_TRUE(everything.AddRow(0, i).ok());
  const auto all_removed = std::move(everything).Build();
  const TokenActivation activation =
      RoutingPairs().Select(rows.At(0, 0), 0, *all_removed, {.top_n = 144});
  double sum = 0;
  for (const ActiveExpert& expert : activation.experts) {
    sum += expert.weight;
    EXPECT_TRUE(expert.removed);
  }
  EXPECT_NEAR(sum, heads, 1e-5);
  EXPECT_NEAR(activation.removed_weight, heads, 1e-5);
  EXPECT_EQ(static_cast<int32_t>(activation.experts.size()), activation.active_experts);
}

TEST(RoutingPairs, MinWeightKeepsWhatEqualsIt) {
  RoutingRows rows;
  rows.Begin(1, 1);
  rows.Add(std::vector<int32_t>{2, 1}, std::vector<uint16_t>{0, 2, 1, 0},
           std::vector<float>{0.25f, 0.75f, 1.0f, 0.0f}, 2);
  const auto none = ExpertMask::None({1, 3});
  RoutingPairs pairs;
  EXPECT_EQ(pairs.Select(rows.At(0, 0), 0, *none, {.top_n = 9, .min_weight = 0.25}).experts,
            (std::vector<ActiveExpert>{{2, 1, 0.75f, false}, {0, 1, 0.25f, false}}));
  const TokenActivation cut =
      pairs.Select(rows.At(0, 0), 0, *none, {.top_n = 9, .min_weight = 0.2500001});
  EXPECT_EQ(cut.experts, (std::vector<ActiveExpert>{{2, 1, 0.75f, false}}));
  EXPECT_EQ(cut.active_experts, 2);
}

}  // namespace
}  // namespace monet
