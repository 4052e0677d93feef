#include "cli/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "cli/exit_status.h"

namespace monet::cli {
namespace {

using testing::HasSubstr;

std::vector<size_t> Sizes(size_t ids, int32_t context) {
  const std::vector<int32_t> list(ids);
  std::vector<size_t> sizes;
  for (const auto window : ScoreWindows(list, context)) sizes.push_back(window.size());
  return sizes;
}

v1::ScoreResponse Answer(const std::vector<int32_t>& ids, const std::vector<float>& logprobs) {
  v1::ScoreResponse answer;
  answer.mutable_token_ids()->Assign(ids.begin(), ids.end());
  answer.mutable_logprobs()->Assign(logprobs.begin(), logprobs.end());
  answer.mutable_header()->mutable_mask()->set_digest("sha256:a");
  answer.set_removed_weight_share(0.5);
  answer.mutable_usage()->set_prompt_tokens(static_cast<int32_t>(ids.size()) + 1);
  return answer;
}

TEST(ScoreWindows, HoldContextMinusOneTokens) {
  EXPECT_EQ(Sizes(0, 4), std::vector<size_t>{});
  EXPECT_EQ(Sizes(3, 4), std::vector<size_t>{3});
  EXPECT_EQ(Sizes(4, 4), (std::vector<size_t>{3, 1}));
  EXPECT_EQ(Sizes(6, 4), (std::vector<size_t>{3, 3}));
  EXPECT_EQ(Sizes(3, 2), (std::vector<size_t>{1, 1, 1}));
}

TEST(ScoreWindows, FollowEachOther) {
  std::vector<int32_t> ids(20);
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<int32_t> joined;
  for (const auto window : ScoreWindows(ids, 8)) {
    joined.insert(joined.end(), window.begin(), window.end());
  }
  EXPECT_EQ(joined, ids);
}

TEST(ScoreTotal, SumsInDoubleInOrder) {
  // In float 16777216 + 1 is 16777216: a sum in float, or of the windows first, differs.
  ScoreTotal total;
  ASSERT_TRUE(total.Add(std::vector<int32_t>{5, 6}, Answer({5, 6}, {-16777216.0f, -1.0f})).ok());
  ASSERT_TRUE(total.Add(std::vector<int32_t>{7}, Answer({7}, {-1.0f})).ok());
  EXPECT_EQ(total.tokens(), 3);
  EXPECT_EQ(total.windows(), 2);
  EXPECT_EQ(total.mean_nll(), 16777218.0 / 3.0);
  EXPECT_EQ(total.usage().prompt_tokens(), 5);
  EXPECT_EQ(total.removed_weight_share(), 0.5);
}

TEST(ScoreTotal, RefusesAnswersThatDoNotFit) {
  const std::vector<int32_t> ids = {5, 6};
  const auto error = [&](const v1::ScoreResponse& answer) {
    ScoreTotal total;
    const absl::Status status = total.Add(ids, answer);
    EXPECT_EQ(ExitCode(status), kExitCallFailed);
    return Message(status);
  };
  EXPECT_THAT(error(Answer({5, 7}, {-1, -1})), HasSubstr("other tokens"));
  EXPECT_THAT(error(Answer({5}, {-1})), HasSubstr("other tokens"));
  EXPECT_THAT(error(Answer({5, 6}, {-1})), HasSubstr("1 log-probabilities for 2 tokens"));
  for (const float bad : {-std::numeric_limits<float>::infinity(), std::nanf("")}) {
    EXPECT_THAT(error(Answer({5, 6}, {-1, bad})), HasSubstr("not a finite number"));
  }
}

TEST(ScoreTotal, RefusesAMaskThatChanges) {
  ScoreTotal total;
  const std::vector<int32_t> ids = {5};
  v1::ScoreResponse answer = Answer({5}, {-1});
  ASSERT_TRUE(total.Add(ids, answer).ok());
  answer.mutable_header()->mutable_mask()->set_digest("sha256:b");
  EXPECT_EQ(total.Add(ids, answer).code(), absl::StatusCode::kAborted);
}

}  // namespace
}  // namespace monet::cli
