#include "runtime/model/offline_forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "tests/model/checkpoint_files.h"
#include "tests/model/golden_files.h"
#include "tests/model/sequence_runner.h"

namespace monet {
namespace {

using testing::ExpectClose;
using testing::GoldenFile;
using ::testing::HasSubstr;
using testing::LoadedModel;

class OfflineForwardTest : public ::testing::TestWithParam<const char*> {
 protected:
  OfflineForwardTest()
      : model_(LoadedModel::Load(testing::GoldenFolder("vd_tiny"), GetParam())),
        golden_(testing::GoldenFolder("vd_tiny") / "golden.safetensors"),
        ids_(golden_.Ints("input_ids")) {}

  absl::StatusOr<std::vector<float>> Run(std::span<const int32_t> ids, int64_t sequences,
                                         int64_t length, const ExpertMask* mask = nullptr) {
    return ForwardLogits(model_.backend.get(), *model_.weights,
                         {.ids = ids, .sequences = sequences, .length = length}, mask);
  }

  LoadedModel model_;
  GoldenFile golden_;
  std::vector<int32_t> ids_;
};

TEST_P(OfflineForwardTest, GivesTheGoldenLogits) {
  const auto logits = Run(ids_, 2, 24);
  ASSERT_TRUE(logits.ok()) << logits.status().ToString();
  const auto golden = golden_.Floats("logits");
  ExpectClose(*logits, golden, 2e-4 * testing::StandardDeviation(golden), "logits");
  const auto mask = testing::GoldenMask("random30", model_.weights->config(), golden_);
  const auto masked = Run(ids_, 2, 24, mask.get());
  ASSERT_TRUE(masked.ok());
  const auto golden_masked = golden_.Floats("masked.random30.logits");
  ExpectClose(*masked, golden_masked, 2e-4 * testing::StandardDeviation(golden_masked), "masked");
}

// More than one chunk: the bits of an engine's steps of another size.
TEST_P(OfflineForwardTest, LongSequencesGoInChunks) {
  const int32_t length = 100;
  ASSERT_LE(length, model_.weights->config().max_context);
  std::vector<int32_t> ids(length);
  for (int32_t i = 0; i < length; ++i) ids[i] = i * 7 % 256;
  const auto offline = Run(ids, 1, length);
  ASSERT_TRUE(offline.ok()) << offline.status().ToString();
  const auto forward = model_.MakeForward({.max_tokens = 17,
                                           .max_logit_rows = 17,
                                           .max_sequences = 1,
                                           .kv_blocks = 40,
                                           .block_size = 5,
                                           .mask_slots = 1});
  testing::TestSequence sequence = {.ids = ids, .blocks = testing::ShuffledBlocks(40, 20, 1)};
  const auto steps = testing::RunToEnd(forward.get(), &sequence, 17);
  ASSERT_EQ(offline->size(), steps.logits.size());
  EXPECT_EQ(std::memcmp(offline->data(), steps.logits.data(), offline->size() * sizeof(float)), 0);
}

// Every sequence of a batch as if it were alone, and a prefix as the whole.
TEST_P(OfflineForwardTest, SequencesAreIndependent) {
  const int32_t length = model_.weights->config().max_context;
  ASSERT_GT(length, 64);
  std::vector<int32_t> ids(2 * length);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 256);
  const auto both = Run(ids, 2, length);
  const auto second = Run(std::span(ids).last(length), 1, length);
  ASSERT_TRUE(both.ok() && second.ok());
  ASSERT_EQ(both->size(), 2 * second->size());
  EXPECT_EQ(
      std::memcmp(both->data() + second->size(), second->data(), second->size() * sizeof(float)),
      0);
  const auto prefix = Run(std::span(ids).first(65), 1, 65);
  ASSERT_TRUE(prefix.ok());
  EXPECT_EQ(std::memcmp(both->data(), prefix->data(), prefix->size() * sizeof(float)), 0);
}

TEST_P(OfflineForwardTest, RefusesBadInput) {
  const auto error = [](const absl::StatusOr<std::vector<float>>& result) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    return Message(result.status());
  };
  const int32_t context = model_.weights->config().max_context;
  EXPECT_THAT(error(Run({}, 1, 0)), HasSubstr("length is 0, allowed 1 to"));
  EXPECT_THAT(error(Run(ids_, 1, -1)), HasSubstr("length is -1"));
  const std::vector<int32_t> longer(context + 1, 1);
  EXPECT_THAT(error(Run(longer, 1, context + 1)), HasSubstr("length is"));
  EXPECT_THAT(error(Run(ids_, 3, 24)), HasSubstr("48 values are not 3 sequences of 24"));
  EXPECT_THAT(error(Run(ids_, 0, 24)), HasSubstr("are not 0 sequences"));
  EXPECT_THAT(error(Run(ids_, int64_t{1} << 62, 4)), HasSubstr("values are not"));
  for (int32_t id : {-1, 256, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(error(Run(std::vector<int32_t>{1, id}, 1, 2)),
              fmt::format("ids: token id {}, allowed 0 to 255", id));
  }
  const auto foreign = ExpertMask::None({.routers = 1, .experts = 8});
  EXPECT_THAT(error(Run(ids_, 2, 24, foreign.get())), HasSubstr("mask: made for 1 routers of 8"));
}

INSTANTIATE_TEST_SUITE_P(All, OfflineForwardTest, ::testing::Values("reference", "cpu"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace monet
