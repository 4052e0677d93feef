// The expert layer against E² separate experts computed from published weights: the check of masks,
// of both decompositions, and of the packed layouts.
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/expert_oracle.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/expert_fixture.h"

namespace monet::kernels::testing {
namespace {

Rows AllRowsOf(const ExpertLayer& layer) {
  Rows rows;
  for (int32_t t = 0; t < layer.shape.tokens; ++t) rows.push_back(t);
  return rows;
}

OpOutput RunOn(std::unique_ptr<Backend> backend, const ExpertLayer& layer) {
  EXPECT_TRUE(backend->Prepare(layer.NeededLimits()));
  return layer.Run(*backend, AllRowsOf(layer));
}

void ExpectOracle(const ExpertLayer& layer) {
  const ExpertShape& shape = layer.shape;
  SCOPED_TRACE(ToString(shape));
  const OpOutput reference = RunOn(MakeReferenceBackend(), layer);
  const OpOutput cpu = RunOn(MakeCpuBackend({.threads = 2}), layer);
  const OpOutput bound = RunOn(MakeReferenceBackend(), Magnitudes(layer));
  const double roundings = ExpertRoundings(layer);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const std::vector<double> expected =
        ExpertOracle(layer.weights, layer.x.data() + t * shape.hidden, layer.routing.Dense(t, 0),
                     layer.routing.Dense(t, 1), layer.masks.RemovedOf(t), shape.heads);
    for (int64_t d = 0; d < shape.hidden; ++d) {
      const int64_t at = t * shape.hidden + d;
      const double want = layer.residual[at] + expected[d];
      ASSERT_NEAR(reference.values[at], want, bound.values[at] * kEps) << "t=" << t << " d=" << d;
      ASSERT_NEAR(cpu.values[at], want, bound.values[at] * kEps * roundings)
          << "t=" << t << " d=" << d;
    }
  }
}

TEST(ExpertOracle, RandomShapesAndMasks) {
  Rng rng(11);
  const MaskKind kinds[] = {MaskKind::kNone, MaskKind::kEmpty, MaskKind::kRandom30,
                            MaskKind::kRows, MaskKind::kAll,   MaskKind::kMixed};
  for (int n = 0; n < 60; ++n) {
    const bool vertical = n % 2 == 0;
    const int32_t experts = Uniform(rng, 1, 9);
    const int32_t hidden = Uniform(rng, 1, 20);
    const int32_t moe_dim = Uniform(rng, 1, 9);
    ExpectOracle(ExpertLayer(
        ExpertShape{.decompose = vertical ? Decompose::kVertical : Decompose::kHorizontal,
                    .tokens = Uniform(rng, 1, 6),
                    .hidden = vertical ? 2 * hidden : hidden,
                    .heads = Uniform(rng, 1, 4),
                    .experts = experts,
                    .moe_dim = vertical ? 2 * moe_dim : moe_dim,
                    .most_kept = Uniform(rng, 1, experts),
                    .dtype = n % 3 == 0 ? DType::kBF16 : DType::kF32,
                    .mask = kinds[Uniform(rng, 0, 5)]}));
    if (HasFatalFailure()) return;
  }
}

ExpertShape MaskShape(Decompose decompose, MaskKind mask) {
  return {.decompose = decompose,
          .tokens = 9,
          .hidden = 36,
          .heads = 3,
          .experts = 13,
          .moe_dim = 6,
          .most_kept = 6,
          .mask = mask};
}

TEST(ExpertMask, AnEmptyMaskIsNoMaskToTheBit) {
  for (const Decompose decompose : {Decompose::kVertical, Decompose::kHorizontal}) {
    const ExpertLayer without(MaskShape(decompose, MaskKind::kNone));
    const ExpertLayer empty(MaskShape(decompose, MaskKind::kEmpty));
    const OpOutput a = RunOn(MakeCpuBackend({}), without);
    const OpOutput b = RunOn(MakeCpuBackend({}), empty);
    ASSERT_EQ(a.values.size(), b.values.size());
    EXPECT_EQ(std::memcmp(a.values.data(), b.values.data(), a.values.size() * sizeof(float)), 0);
  }
}

// Removing only experts that a row does not use leaves the row's bits alone, and so does removing
// experts of other rows: the shared inner sums equal the masked ones.
TEST(ExpertMask, RemovingUnusedExpertsChangesNoBit) {
  for (const Decompose decompose : {Decompose::kVertical, Decompose::kHorizontal}) {
    const ExpertLayer plain(MaskShape(decompose, MaskKind::kEmpty));
    ExpertLayer masked = plain;
    for (size_t n = 0; n < masked.masks.removed[0].size(); ++n) masked.masks.removed[0][n] = true;
    for (const uint16_t i : plain.routing.Active(0, 0)) {
      for (const uint16_t j : plain.routing.Active(0, 1)) {
        masked.masks.removed[0][i * plain.shape.experts + j] = false;
      }
    }
    const OpOutput a = RunOn(MakeCpuBackend({}), plain);
    const OpOutput b = RunOn(MakeCpuBackend({}), masked);
    EXPECT_EQ(std::memcmp(a.values.data(), b.values.data(), plain.shape.hidden * sizeof(float)), 0);
    EXPECT_NE(a.values, b.values) << "the other rows do use removed experts";
  }
}

TEST(ExpertMask, RemovingAllLeavesTheResidual) {
  for (const Decompose decompose : {Decompose::kVertical, Decompose::kHorizontal}) {
    const ExpertLayer layer(MaskShape(decompose, MaskKind::kAll));
    EXPECT_EQ(RunOn(MakeCpuBackend({.threads = 2}), layer).values, layer.residual);
    EXPECT_EQ(RunOn(MakeReferenceBackend(), layer).values, layer.residual);
  }
}

// A step without masks may leave the table empty.
TEST(ExpertMask, NoTableIsNoMask) {
  for (const bool use_cpu : {false, true}) {
    const auto backend = use_cpu ? MakeCpuBackend({}) : MakeReferenceBackend();
    const ExpertLayer layer(MaskShape(Decompose::kHorizontal, MaskKind::kNone));
    ASSERT_TRUE(backend->Prepare(layer.NeededLimits()));
    Device device(*backend);
    float* removed = device.Put(std::vector<float>(layer.shape.tokens, 0.5f));
    backend->RemovedWeight({.routing = PutRouting(device, layer.routing, AllRowsOf(layer)),
                            .tokens = layer.shape.tokens,
                            .routing_heads = layer.shape.heads,
                            .experts = layer.shape.experts,
                            .removed = removed});
    EXPECT_EQ(device.Get(removed, layer.shape.tokens),
              std::vector<float>(layer.shape.tokens, 0.5f));
  }
}

}  // namespace
}  // namespace monet::kernels::testing
