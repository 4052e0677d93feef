// The memory plan against what loading and preparing really allocate.
#include "runtime/model/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/workspace.h"
#include "runtime/model/forward.h"
#include "runtime/model/weights.h"
#include "tests/model/checkpoint_files.h"
#include "tests/model/delegating_backend.h"

namespace monet {
namespace {

using testing::CheckpointFiles;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr int64_t kGiB = int64_t{1} << 30;

// Adds up what is asked of it.
class CountingBackend final : public testing::DelegatingBackend {
 public:
  CountingBackend(kernels::Backend* inner, int32_t threads)
      : DelegatingBackend(inner), threads_(threads) {}

  void* Alloc(size_t bytes) override {
    bytes_ += static_cast<int64_t>(kernels::AlignedBytes(bytes));
    return DelegatingBackend::Alloc(bytes);
  }
  bool Prepare(const kernels::Limits& limits) override {
    bytes_ += kernels::WorkspaceBytes(limits, threads_);
    return DelegatingBackend::Prepare(limits);
  }
  int64_t Take() { return std::exchange(bytes_, 0); }

 private:
  const int32_t threads_;
  int64_t bytes_ = 0;
};

StepLimits SmallLimits() {
  return {.max_tokens = 24,
          .max_logit_rows = 20,
          .max_sequences = 5,
          .mask_slots = 3,
          .shadow_slots = 2};
}

// Plans, loads and prepares the model of a folder, and compares to the byte.
void ExpectPlanned(const std::filesystem::path& folder) {
  constexpr int32_t kThreads = 3;
  const auto inner = kernels::MakeCpuBackend({.threads = kThreads});
  CountingBackend backend(inner.get(), kThreads);
  const auto checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  StepLimits limits = SmallLimits();
  const auto plan = PlanMemory(StoredModel::Of(**checkpoint),
                               {.limits = limits, .threads = kThreads, .memory = kGiB});
  ASSERT_TRUE(plan.ok()) << plan.status();

  const auto weights = LoadWeights(folder, &backend, kThreads);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(backend.Take(), plan->weights);
  EXPECT_GE(plan->weights, static_cast<int64_t>((*weights)->bytes()));
  limits.kv_blocks = plan->kv_blocks;
  const auto forward = Forward::Create(&backend, weights->get(), limits);
  ASSERT_TRUE(forward.ok()) << forward.status();
  // Copies of the results are not the backend's.
  const int64_t host = 4 * (int64_t{limits.max_logit_rows} * (*weights)->config().vocabulary +
                            2 * limits.max_tokens);
  EXPECT_EQ(backend.Take() + host, plan->kv_cache + plan->activations + plan->masks);
}

TEST(MemoryPlan, IsWhatIsAllocated) {
  for (const char* name : {"vd_tiny", "hd_tiny", "hd_odd", "vd_bf16", "vd_gqa_tied"}) {
    SCOPED_TRACE(name);
    ExpectPlanned(testing::GoldenFolder(name));
  }
  ExpectPlanned(testing::DemoFolder());
}

TEST(MemoryPlan, TensorsOfMixedTypes) {
  CheckpointFiles files = CheckpointFiles::Read(testing::GoldenFolder("hd_tiny"));
  int turn = 0;
  for (auto& [name, tensor] : files.tensors) {
    if (tensor.dtype != TensorDType::kF32 || ++turn % 3 == 0) continue;
    std::vector<uint8_t> halves;  // the upper half of a float is a bf16
    for (size_t i = 0; i + 3 < tensor.bytes.size(); i += 4) {
      halves.push_back(tensor.bytes[i + 2]);
      halves.push_back(tensor.bytes[i + 3]);
    }
    tensor.bytes = std::move(halves);
    tensor.dtype = TensorDType::kBF16;
  }
  TemporaryFolder folder;
  files.Write(folder.path());
  ExpectPlanned(folder.path());
}

ModelConfig Shape(int32_t hidden, int32_t layers, int32_t heads) {
  ModelConfig config;
  config.hidden = hidden;
  config.layers = layers;
  config.heads = heads;
  config.kv_heads = heads;
  config.vocabulary = 32000;
  config.max_context = 2048;
  config.experts = 512;
  config.moe_dim = 12;
  config.routing_heads = 8;
  config.top_k = 8;
  config.group_layers = 4;
  return config;
}

TEST(MemoryPlan, CacheBytesOfThePublishedSizes) {
  EXPECT_EQ(KvBytesPerToken(Shape(1536, 24, 12), 2), 144 << 10);  // 850M
  EXPECT_EQ(KvBytesPerToken(Shape(2048, 24, 16), 2), 192 << 10);  // 1.4B
  EXPECT_EQ(KvBytesPerToken(Shape(3072, 32, 24), 2), 384 << 10);  // 4.1B
  EXPECT_EQ(KvBytesPerToken(Shape(1536, 24, 12), 4), 288 << 10);
}

StoredModel Medium() { return StoredModel::Assume(Shape(1536, 24, 12), TensorDType::kBF16); }

TEST(MemoryPlan, TheCacheTakesWhatIsLeftAndNoMore) {
  const int64_t context = int64_t{2048} * (288 << 10);
  MemoryRequest request{.threads = 4, .max_queue = 256, .memory = 8 * kGiB};
  const auto plan = PlanMemory(Medium(), request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LE(plan->Peak(), 8 * kGiB);
  EXPECT_GT(plan->Total(), 8 * kGiB - (int64_t{5} << 20) - 16 * plan->token_bytes);
  EXPECT_GT(plan->Contexts(), 1.0);

  request.shared = true;
  const auto shared = PlanMemory(Medium(), request);
  ASSERT_TRUE(shared.ok());
  EXPECT_NEAR(static_cast<double>(shared->kv_cache), static_cast<double>(plan->kv_cache) / 4,
              static_cast<double>(int64_t{8} << 20));

  request = {.threads = 4, .memory = 400 * kGiB};
  const auto large = PlanMemory(Medium(), request);
  ASSERT_TRUE(large.ok());
  EXPECT_EQ(large->kv_cache, 32 * context);
}

TEST(MemoryPlan, TheLeastMemoryIsEnoughAndAByteLessIsNot) {
  MemoryRequest request{.threads = 4, .max_queue = 256, .memory = 400 * kGiB};
  const int64_t least = PlanMemory(Medium(), request)->minimum;
  for (const bool shared : {false, true}) {
    request.shared = shared;
    request.memory = least;
    const auto plan = PlanMemory(Medium(), request);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->KvTokens(), 2048);
    EXPECT_EQ(plan->Peak(), least);
    request.memory = least - 1;
    const absl::Status status = PlanMemory(Medium(), request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(Message(status), HasSubstr(std::to_string(least) + " bytes are needed, " +
                                           std::to_string(least - 1) + " are available"));
  }
}

TEST(MemoryPlan, AConfiguredCacheIsTakenAsItIs) {
  MemoryRequest request{.threads = 4, .kv_tokens = 2049, .memory = 40 * kGiB};
  EXPECT_EQ(PlanMemory(Medium(), request)->kv_blocks, 129);
  request.memory = 3 * kGiB;
  request.kv_tokens = 10000;
  EXPECT_EQ(PlanMemory(Medium(), request).status().code(), absl::StatusCode::kResourceExhausted);
  request.kv_tokens = 2047;
  EXPECT_THAT(Message(PlanMemory(Medium(), request).status()),
              HasSubstr("kv_tokens is 2047, at least the model's context, 2048"));
  request.kv_tokens = INT32_MAX;
  EXPECT_FALSE(PlanMemory(Medium(), request).ok());
}

TEST(MemoryPlan, RefusesLimitsOutOfRange) {
  MemoryRequest request{.memory = 400 * kGiB};
  request.limits.mask_slots = -1;
  EXPECT_THAT(Message(PlanMemory(Medium(), request).status()), HasSubstr("mask_slots is -1"));
}

TEST(MemoryPlan, BytesForPeopleAreRoundedUp) {
  EXPECT_EQ(FormatBytes(0), "0.0 MiB");
  EXPECT_EQ(FormatBytes(1), "0.1 MiB");
  EXPECT_EQ(FormatBytes(64 << 20), "64.0 MiB");
  EXPECT_EQ(FormatBytes(8 * kGiB + 1), "8.1 GiB");
}

}  // namespace
}  // namespace monet
