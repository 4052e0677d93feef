// Route at its edges, with logits that are exact in every arithmetic: x is one-hot, weights are
// small integers.
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/device.h"

namespace monet::kernels::testing {
namespace {

struct Kept {
  std::vector<uint16_t> index;
  std::vector<float> gate;
  std::vector<uint16_t> active;
};

std::vector<std::unique_ptr<Backend>> Backends() {
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(MakeReferenceBackend());
  for (const Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512}) {
    if (CpuHas(isa)) backends.push_back(MakeCpuBackend({.threads = 1, .isa = isa}));
  }
  return backends;
}

// One token and head; side 1 has the logits `z` and the threshold, side 2 keeps everything.
Kept RouteOne(Backend& backend, const std::vector<float>& z, float threshold) {
  const int32_t experts = static_cast<int32_t>(z.size());
  EXPECT_TRUE(
      backend.Prepare({.max_tokens = 1, .hidden = 2, .routing_heads = 1, .experts = experts}));
  Device device(backend);
  std::vector<float> weight;
  for (const float logit : z) weight.insert(weight.end(), {7.0f, logit});
  const Matrix w{device.Put(weight), DType::kF32, experts, 2};
  const float lowest = -std::numeric_limits<float>::infinity();
  const Routing out{.count = device.Fresh<int32_t>(2),
                    .index = device.Fresh<uint16_t>(2 * experts),
                    .gate = device.Fresh<float>(2 * experts),
                    .active_count = device.Fresh<int32_t>(2),
                    .active = device.Fresh<uint16_t>(2 * experts)};
  backend.Route({.x = device.Put(std::vector<float>{0, 1}),
                 .w1 = w,
                 .w2 = w,
                 .threshold1 = device.Put(std::vector<float>{threshold}),
                 .threshold2 = device.Put(std::vector<float>{lowest}),
                 .tokens = 1,
                 .routing_heads = 1,
                 .experts = experts,
                 .out = out});
  const std::vector<int32_t> count = device.Get(out.count, 2);
  EXPECT_EQ(count[1], experts) << "a threshold of -infinity (k = E) keeps everything";
  Kept kept{device.Get(out.index, count[0]), device.Get(out.gate, count[0]), {}};
  const int32_t active = device.Get(out.active_count, 2)[0];
  kept.active = device.Get(out.active, active);
  return kept;
}

using Indices = std::vector<uint16_t>;

TEST(Route, KeepsLogitsAtTheThreshold) {
  for (const auto& backend : Backends()) {
    SCOPED_TRACE(backend->Description());
    const Kept kept = RouteOne(*backend, {1, 3, 2, 3, -1, 5, 2}, 3);
    EXPECT_EQ(kept.index, (Indices{1, 3, 5}));
    EXPECT_EQ(kept.active, kept.index);
    const double total = 2 * std::exp(-2.0) + 1;
    EXPECT_NEAR(kept.gate[0], std::exp(-2.0) / total, 1e-6);
    EXPECT_EQ(kept.gate[0], kept.gate[1]);
    EXPECT_NEAR(kept.gate[2], 1 / total, 1e-6);
  }
}

TEST(Route, KeepsTheLargestWhenAllAreBelowTheThreshold) {
  for (const auto& backend : Backends()) {
    SCOPED_TRACE(backend->Description());
    const Kept one = RouteOne(*backend, {-4, -2, -3}, 10);
    EXPECT_EQ(one.index, (Indices{1}));
    EXPECT_EQ(one.gate, (std::vector<float>{1}));
    const Kept tied = RouteOne(*backend, {-2, -4, -2}, std::numeric_limits<float>::infinity());
    EXPECT_EQ(tied.index, (Indices{0, 2}));
    EXPECT_EQ(tied.gate, (std::vector<float>{0.5f, 0.5f}));
  }
}

TEST(Route, KeepsEveryExpertWhenKIsE) {
  for (const auto& backend : Backends()) {
    SCOPED_TRACE(backend->Description());
    std::vector<float> z(37);
    std::iota(z.begin(), z.end(), -20.0f);
    const Kept kept = RouteOne(*backend, z, -std::numeric_limits<float>::infinity());
    ASSERT_EQ(kept.index.size(), z.size());
    EXPECT_NEAR(std::accumulate(kept.gate.begin(), kept.gate.end(), 0.0), 1.0, 1e-6);
  }
}

// Far below the largest logit a gate underflows to zero; it stays finite and listed.
TEST(Route, GatesUnderflowToZero) {
  for (const auto& backend : Backends()) {
    SCOPED_TRACE(backend->Description());
    const Kept kept = RouteOne(*backend, {-500, 300, 0}, -1000);
    EXPECT_EQ(kept.index, (Indices{0, 1, 2}));
    EXPECT_EQ(kept.gate, (std::vector<float>{0, 1, 0}));
  }
}

}  // namespace
}  // namespace monet::kernels::testing
