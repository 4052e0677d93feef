// What must not change a bit: chunks, neighbours in the batch, block tables and sizes, threads, the
// slot of a mask, stale memory. And what Forward refuses.
#include "runtime/model/forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/model/checkpoint_files.h"
#include "tests/model/delegating_backend.h"
#include "tests/model/golden_files.h"
#include "tests/model/sequence_runner.h"

namespace monet {
namespace {

using ::testing::HasSubstr;
using testing::LoadedModel;
using testing::Rows;
using testing::RunStep;
using testing::RunToEnd;
using testing::StepRows;
using testing::TestSequence;

constexpr int32_t kTokens = 21;
constexpr int32_t kMasks = 3;

StepLimits LimitsOf(int32_t block_size = 4) {
  return {.max_tokens = 40,
          .max_logit_rows = 40,
          .max_sequences = 6,
          .max_context = 48,
          .kv_blocks = 240 / block_size,
          .block_size = block_size,
          .mask_slots = kMasks + 1};
}

std::shared_ptr<const ExpertMask> RandomMask(const ModelConfig& config, uint32_t seed) {
  std::mt19937 random(seed);
  MaskBuilder builder(testing::ShapeOf(config));
  const int64_t all = int64_t{config.experts} * config.experts;
  for (int32_t router = 0; router < config.Routers(); ++router) {
    for (int64_t n = 0; n < all / 3; ++n) {
      EXPECT_TRUE(builder.AddExpert(router, random() % all).ok());
    }
    EXPECT_TRUE(builder.AddRow(router, random() % config.experts).ok());
  }
  return std::move(builder).Build();
}

std::vector<int32_t> RandomIds(int32_t vocabulary, int32_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % vocabulary);
  return ids;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void ExpectSame(const StepRows& actual, const StepRows& expected) {
  EXPECT_TRUE(SameBits(actual.logits, expected.logits));
  EXPECT_TRUE(SameBits(actual.removed, expected.removed));
}

// Golden folder, backend.
class ForwardTest : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  ForwardTest() : model_(LoadModel(2)), forward_(MakeForward(model_)) {}

  LoadedModel LoadModel(int32_t threads) const {
    return LoadedModel::Load(testing::GoldenFolder(std::get<0>(GetParam())),
                             std::get<1>(GetParam()), threads);
  }
  // Slots 0..kMasks-1 hold random masks, the last one a mask that removes nothing.
  std::unique_ptr<Forward> MakeForward(const LoadedModel& model,
                                       const StepLimits& limits = LimitsOf()) const {
    auto forward = model.MakeForward(limits);
    const ModelConfig& config = model.weights->config();
    for (int32_t slot = 0; slot < kMasks; ++slot) {
      forward->SetMask(slot, *RandomMask(config, 100 + slot));
    }
    forward->SetMask(kMasks, *ExpertMask::None(testing::ShapeOf(config)));
    return forward;
  }
  TestSequence Sequence(uint32_t seed, int32_t slot, std::vector<int32_t> blocks,
                        int32_t tokens = kTokens) const {
    return {.ids = RandomIds(model_.weights->config().vocabulary, tokens, seed),
            .mask_slot = slot,
            .blocks = std::move(blocks)};
  }
  StepRows Whole(Forward* forward, int32_t slot, uint32_t block_seed = 1, int32_t chunk = 40) {
    const StepLimits& limits = forward->limits();
    const int32_t blocks = (kTokens + limits.block_size - 1) / limits.block_size;
    TestSequence sequence =
        Sequence(5, slot, testing::ShuffledBlocks(limits.kv_blocks, blocks, block_seed));
    return RunToEnd(forward, &sequence, chunk);
  }

  LoadedModel model_;
  std::unique_ptr<Forward> forward_;
};

TEST_P(ForwardTest, ChunksChangeNothing) {
  for (int32_t slot : {-1, 0}) {
    const StepRows whole = Whole(forward_.get(), slot);
    for (int32_t chunk : {1, 2, 3, 7, 16}) {
      SCOPED_TRACE(chunk);
      ExpectSame(Whole(forward_.get(), slot, 1, chunk), whole);
    }
  }
}

TEST_P(ForwardTest, BlockTablesAndSizesChangeNothing) {
  const StepRows whole = Whole(forward_.get(), 1);
  for (uint32_t seed : {2u, 3u, 4u}) ExpectSame(Whole(forward_.get(), 1, seed, 5), whole);
  for (int32_t block_size : {1, 5, 16}) {
    SCOPED_TRACE(block_size);
    forward_.reset();  // one Forward on a backend at a time
    forward_ = MakeForward(model_, LimitsOf(block_size));
    ExpectSame(Whole(forward_.get(), 1, 3, 6), whole);
  }
}

TEST_P(ForwardTest, ThreadsChangeNothing) {
  const StepRows whole = Whole(forward_.get(), 2);
  for (int32_t threads : {1, 3}) {
    const LoadedModel other = LoadModel(threads);
    const auto forward = MakeForward(other);
    ExpectSame(Whole(forward.get(), 2), whole);
  }
}

TEST_P(ForwardTest, AMaskThatRemovesNothingIsNoMask) {
  ExpectSame(Whole(forward_.get(), kMasks), Whole(forward_.get(), -1));
}

TEST_P(ForwardTest, TheSlotOfAMaskChangesNothing) {
  const StepRows first = Whole(forward_.get(), 0);
  EXPECT_FALSE(SameBits(first.logits, Whole(forward_.get(), 1).logits));
  EXPECT_FALSE(SameBits(first.logits, Whole(forward_.get(), -1).logits));
  forward_->SetMask(2, *RandomMask(model_.weights->config(), 100));
  ExpectSame(Whole(forward_.get(), 2), first);
}

// Random mixes of sequences, masks and chunk sizes: every sequence as if it were alone. Finished
// sequences give their blocks to new ones.
TEST_P(ForwardTest, NeighboursChangeNothing) {
  const StepLimits limits = LimitsOf();
  constexpr int32_t kBlocksEach = 8;  // 32 positions
  for (uint32_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto all = testing::ShuffledBlocks(limits.kv_blocks, limits.kv_blocks, seed);
    std::vector<TestSequence> sequences;
    std::vector<StepRows> together(5);
    for (int32_t s = 0; s < 5; ++s) {
      const auto begin = all.begin() + s * kBlocksEach;
      sequences.push_back(Sequence(seed * 10 + s, static_cast<int32_t>(random() % 5) - 1,
                                   {begin, begin + kBlocksEach}, 4 + random() % 28));
    }
    const std::vector<TestSequence> fresh = sequences;
    while (true) {
      std::vector<Rows> rows;
      int32_t room = limits.max_tokens;
      std::vector<int32_t> order = {0, 1, 2, 3, 4};
      std::shuffle(order.begin(), order.end(), random);
      std::vector<int32_t> part_of;
      for (int32_t s : order) {
        const int32_t left = static_cast<int32_t>(sequences[s].ids.size()) - sequences[s].computed;
        const int32_t count = std::min<int32_t>({left, room, static_cast<int32_t>(random() % 9)});
        if (count == 0) continue;
        rows.push_back({&sequences[s], count});
        part_of.push_back(s);
        room -= count;
      }
      if (rows.empty()) {
        if (std::all_of(sequences.begin(), sequences.end(), [](const TestSequence& s) {
              return s.computed == static_cast<int32_t>(s.ids.size());
            })) {
          break;
        }
        continue;
      }
      const StepRows step = RunStep(forward_.get(), rows);
      size_t row = 0;
      const size_t vocabulary = forward_->vocabulary();
      for (size_t p = 0; p < rows.size(); ++p) {
        StepRows& mine = together[part_of[p]];
        const size_t end = row + rows[p].count;
        mine.logits.insert(mine.logits.end(), step.logits.begin() + row * vocabulary,
                           step.logits.begin() + end * vocabulary);
        mine.removed.insert(mine.removed.end(), step.removed.begin() + row,
                            step.removed.begin() + end);
        row = end;
      }
    }
    for (int32_t s = 0; s < 5; ++s) {
      TestSequence alone = fresh[s];
      ExpectSame(together[s], RunToEnd(forward_.get(), &alone, 40));
    }
  }
}

// Only the wanted rows come back, with the bits that they have among all rows.
TEST_P(ForwardTest, LogitRowsAreASelection) {
  const StepRows whole = Whole(forward_.get(), 0);
  StepBatch batch;
  batch.token_ids = Sequence(5, 0, {}).ids;
  batch.positions.resize(kTokens);
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  batch.sequences.assign(kTokens, 0);
  batch.mask_slots.assign(kTokens, 0);
  batch.block_tables = {9, 2, 11, 4, 0, 7};
  batch.table_stride = 6;
  const size_t vocabulary = forward_->vocabulary();
  for (const std::vector<int32_t>& wanted :
       {std::vector<int32_t>{}, {kTokens - 1}, {0, 3, 4, 20}}) {
    batch.logit_rows = wanted;
    const StepOutput output = forward_->Run(batch);
    ASSERT_EQ(output.logits.size(), wanted.size() * vocabulary);
    ASSERT_EQ(output.removed_weight.size(), static_cast<size_t>(kTokens));
    for (size_t n = 0; n < wanted.size(); ++n) {
      EXPECT_EQ(std::memcmp(&output.logits[n * vocabulary], &whole.logits[wanted[n] * vocabulary],
                            vocabulary * sizeof(float)),
                0);
    }
  }
}

// Sums removed routing weight from what the router shows.
class WeightCounter : public ForwardObserver {
 public:
  WeightCounter(const ModelConfig& config, const ExpertMask& mask) : config_(config), mask_(mask) {}

  void OnRouting(int32_t router, const kernels::Routing& routing, int32_t tokens) override {
    removed.resize(tokens);
    const int32_t heads = config_.routing_heads;
    for (int32_t t = 0; t < tokens; ++t) {
      for (int32_t h = 0; h < heads; ++h) {
        const int32_t side1 = t * 2 * heads + h;
        const int32_t side2 = side1 + heads;
        for (int32_t a = 0; a < routing.count[side1]; ++a) {
          for (int32_t b = 0; b < routing.count[side2]; ++b) {
            const int32_t i = routing.index[side1 * config_.experts + a];
            const int32_t j = routing.index[side2 * config_.experts + b];
            if (!mask_.Removes(router, i, j)) continue;
            removed[t] += static_cast<double>(routing.gate[side1 * config_.experts + a]) *
                          routing.gate[side2 * config_.experts + b];
          }
        }
      }
    }
  }

  std::vector<double> removed;  // (T)

 private:
  const ModelConfig& config_;
  const ExpertMask& mask_;
};

TEST_P(ForwardTest, RemovedWeightIsWhatTheMaskTakes) {
  const ModelConfig& config = model_.weights->config();
  const auto mask = RandomMask(config, 101);
  WeightCounter counter(config, *mask);
  forward_->set_observer(&counter);
  const StepRows whole = Whole(forward_.get(), 1);
  ASSERT_EQ(counter.removed.size(), whole.removed.size());
  double total = 0;
  for (size_t t = 0; t < whole.removed.size(); ++t) {
    EXPECT_NEAR(whole.removed[t], counter.removed[t], 1e-5);
    total += whole.removed[t];
  }
  EXPECT_GT(total, 0);
  EXPECT_LT(total, whole.removed.size() * forward_->routing_weight_per_token());
}

// All memory starts as NaN: whatever is read before it was written shows.
TEST_P(ForwardTest, UnwrittenMemoryIsNeverRead) {
  const StepRows whole = Whole(forward_.get(), 0);
  const LoadedModel inner = LoadModel(2);
  testing::PoisoningBackend poisoned(inner.backend.get());
  const auto weights = LoadWeights(testing::GoldenFolder(std::get<0>(GetParam())), &poisoned, 1);
  ASSERT_TRUE(weights.ok());
  auto forward = Forward::Create(&poisoned, weights->get(), LimitsOf());
  ASSERT_TRUE(forward.ok());
  (*forward)->SetMask(0, *RandomMask(inner.weights->config(), 100));
  ExpectSame(Whole(forward->get(), 0, 1, 6), whole);
}

INSTANTIATE_TEST_SUITE_P(
    All, ForwardTest,
    ::testing::Combine(::testing::Values("vd_tiny", "vd_gqa_tied", "hd_odd", "vd_bf16"),
                       ::testing::Values("reference", "cpu")),
    [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param); });

// Fails when a head keeps fewer than all experts of a side.
class AllKept : public ForwardObserver {
 public:
  explicit AllKept(const ModelConfig& config) : config_(config) {}
  void OnRouting(int32_t, const kernels::Routing& routing, int32_t tokens) override {
    for (int32_t n = 0; n < tokens * 2 * config_.routing_heads; ++n) {
      EXPECT_EQ(routing.count[n], config_.experts);
      ++lists;
    }
  }
  int32_t lists = 0;

 private:
  const ModelConfig& config_;
};

TEST(ForwardTopKTest, KOfAllExpertsKeepsAllOnEveryBackend) {
  testing::CheckpointFiles files = testing::CheckpointFiles::Read(testing::GoldenFolder("vd_tiny"));
  files.SetConfig("moe_topk", "16");
  testing::TemporaryFolder folder;
  files.Write(folder.path());
  std::vector<float> reference;
  for (const char* backend : {"reference", "cpu"}) {
    const LoadedModel model = LoadedModel::Load(folder.path(), backend);
    const auto forward = model.MakeForward(LimitsOf());
    AllKept observer(model.weights->config());
    forward->set_observer(&observer);
    TestSequence sequence = {.ids = RandomIds(256, 16, 3), .blocks = {3, 1, 0, 2}};
    const StepRows rows = RunToEnd(forward.get(), &sequence, 16);
    EXPECT_EQ(observer.lists, 16 * 2 * 2 * 2);  // tokens, sides, heads, routers
    if (reference.empty()) reference = rows.logits;
    testing::ExpectClose(rows.logits, reference, 2e-4 * testing::StandardDeviation(reference),
                         backend);
  }
}

TEST(ForwardCreateTest, RefusesLimitsOutOfRange) {
  const LoadedModel model = LoadedModel::Load(testing::GoldenFolder("vd_tiny"), "reference");
  const auto error = [&model](const StepLimits& limits) {
    const auto forward = Forward::Create(model.backend.get(), model.weights.get(), limits);
    EXPECT_EQ(forward.status().code(), absl::StatusCode::kInvalidArgument);
    return Message(forward.status());
  };
  const StepLimits good = LimitsOf();
  const auto with = [&good](int32_t StepLimits::*field, int32_t value) {
    StepLimits limits = good;
    limits.*field = value;
    return limits;
  };
  EXPECT_EQ(error(with(&StepLimits::max_tokens, 0)), "max_tokens is 0, allowed 1 to 65536");
  EXPECT_THAT(error(with(&StepLimits::max_tokens, INT32_MAX)), HasSubstr("max_tokens is"));
  EXPECT_THAT(error(with(&StepLimits::max_logit_rows, 0)), HasSubstr("max_logit_rows is 0"));
  EXPECT_EQ(error(with(&StepLimits::max_logit_rows, 41)), "max_logit_rows is 41, allowed 1 to 40");
  EXPECT_THAT(error(with(&StepLimits::max_sequences, -1)), HasSubstr("max_sequences is -1"));
  EXPECT_THAT(error(with(&StepLimits::max_context, 1 << 20)), HasSubstr("max_context is 1048576"));
  EXPECT_THAT(error(with(&StepLimits::kv_blocks, 0)), HasSubstr("kv_blocks is 0"));
  EXPECT_THAT(error(with(&StepLimits::block_size, 0)), HasSubstr("block_size is 0"));
  EXPECT_THAT(error(with(&StepLimits::mask_slots, -1)), HasSubstr("mask_slots is -1"));
}

TEST(ForwardCreateTest, ZeroContextIsTheModels) {
  const LoadedModel model = LoadedModel::Load(testing::GoldenFolder("vd_tiny"), "reference");
  StepLimits limits = LimitsOf();
  limits.max_context = 0;
  EXPECT_EQ(model.MakeForward(limits)->limits().max_context, model.weights->config().max_context);
}

TEST(ForwardCreateTest, ReportsWhenMemoryIsOut) {
  const LoadedModel model = LoadedModel::Load(testing::GoldenFolder("vd_tiny"), "reference");
  for (int budget : {0, 1, 10}) {
    testing::PoorBackend poor(model.backend.get(), budget);
    EXPECT_EQ(Forward::Create(&poor, model.weights.get(), LimitsOf()).status().code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(poor.live(), 0);
  }
}

// A batch outside the limits is the caller's bug; running it would touch foreign memory.
TEST(ForwardDeathTest, StopsAtABadBatch) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const LoadedModel model = LoadedModel::Load(testing::GoldenFolder("vd_tiny"), "reference");
  const auto forward = model.MakeForward(LimitsOf());
  const StepBatch good = {.token_ids = {1, 2},
                          .positions = {0, 1},
                          .sequences = {0, 0},
                          .mask_slots = {-1, -1},
                          .block_tables = {0},
                          .table_stride = 1,
                          .logit_rows = {1}};
  EXPECT_EQ(forward->Run(good).logits.size(), static_cast<size_t>(forward->vocabulary()));
  const auto with = [&good](auto change) {
    StepBatch batch = good;
    change(&batch);
    return batch;
  };
  EXPECT_DEATH(forward->Run({}), "check failed");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->token_ids[1] = 1 << 20; })), "token_ids");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->token_ids[1] = -1; })), "token_ids");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->positions[1] = 48; })), "position");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->positions[1] = 4; })), "block < stride");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->sequences[1] = 1; })), "sequences");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->mask_slots[0] = 4; })), "mask_slots");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->block_tables[0] = 60; })), "kv_blocks");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->block_tables[0] = -1; })), "kv_blocks");
  EXPECT_DEATH(forward->Run(with([](StepBatch* b) { b->logit_rows[0] = 2; })), "logit_rows");
  EXPECT_DEATH(forward->SetMask(0, *ExpertMask::None({.routers = 1, .experts = 16})), "shape");
  EXPECT_DEATH(forward->SetMask(4, *ExpertMask::None({.routers = 2, .experts = 16})), "slot");
}

}  // namespace
}  // namespace monet
