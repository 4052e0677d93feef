#include "server/routing_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "server/request_conversion.h"
#include "tests/server/demo_tokenizer.h"

namespace monet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kHuge = std::numeric_limits<int32_t>::max();

ServedShape TestShape() { return {"demo", MaskShape{4, 5}, 100, 4096}; }

v1::GenerateRequest Request(int32_t prompt, int32_t max_tokens) {
  v1::GenerateRequest request;
  for (int32_t n = 0; n < prompt; ++n)
    request.mutable_prompt()->mutable_token_ids()->add_ids(n % 9);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_return_routing();
  return request;
}

// What is refused, "" when nothing is.
template <typename Request>
std::string Refusal(absl::StatusOr<CallInput> (*convert)(const Request&, const ServedShape&),
                    const Request& request, const std::string& field) {
  auto input = convert(request, TestShape());
  absl::Status status = input.status();
  if (input.ok()) status = FitPrompt(TestShape(), DemoTokenizer(), &*input);
  if (status.ok()) return "";
  EXPECT_EQ(ReasonOf(status).reason, Reason::kInvalidField);
  EXPECT_EQ(FieldOf(status), field);
  return Message(status);
}

TEST(ReturnRouting, HasDefaultsAndRanges) {
  v1::GenerateRequest request = Request(3, 3);
  EXPECT_EQ(ConvertGenerate(request, TestShape())->engine.routing->top_n, 16);
  EXPECT_EQ(ConvertGenerate(request, TestShape())->engine.routing->min_weight, 0);
  request.clear_return_routing();
  EXPECT_FALSE(ConvertGenerate(request, TestShape())->engine.routing.has_value());
  v1::RoutingOptions* options = request.mutable_return_routing();
  for (int32_t top_n : {0, -1, 257, kHuge, -kHuge}) {
    options->set_top_n(top_n);
    EXPECT_EQ(Refusal(ConvertGenerate, request, "return_routing.top_n"),
              fmt::format("return_routing.top_n is {}, range 1 to 256", top_n));
  }
  for (int32_t top_n : {1, 256}) {
    options->set_top_n(top_n);
    EXPECT_EQ(Refusal(ConvertGenerate, request, ""), "");
  }
  for (double weight : {-1e-9, 1000.1, std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    options->set_min_weight(weight);
    EXPECT_THAT(Refusal(ConvertGenerate, request, "return_routing.min_weight"),
                HasSubstr("range 0 to 1000"));
  }
  options->set_min_weight(0.5);
  EXPECT_EQ(ConvertGenerate(request, TestShape())->engine.routing->min_weight, 0.5);
}

// 1024 tokens · 4 routers · 64 experts are exactly the limit of 2^18.
TEST(ReturnRouting, LimitsWhatAllCompletionsBring) {
  ASSERT_EQ(limits::kMaxRoutingEntries, 1 << 18);
  v1::GenerateRequest request = Request(24, 500);
  request.set_n(2);
  request.mutable_return_routing()->set_top_n(64);
  EXPECT_EQ(Refusal(ConvertGenerate, request, ""), "");
  request = Request(25, 500);
  request.set_n(2);
  request.mutable_return_routing()->set_top_n(64);
  EXPECT_THAT(Refusal(ConvertGenerate, request, "return_routing.top_n"),
              HasSubstr("1025 tokens with 4 routers ask for 262400 experts, limit 262144"));

  v1::ScoreRequest score;
  *score.mutable_prompt() = Request(1024, 1).prompt();
  score.mutable_return_routing()->set_top_n(64);
  EXPECT_EQ(Refusal(ConvertScore, score, ""), "");
  score.mutable_return_routing()->set_top_n(65);
  EXPECT_THAT(Refusal(ConvertScore, score, "return_routing.top_n"), HasSubstr("limit 262144"));
}

TEST(Explain, HasDefaultsAndRangesAndNoLimitInAll) {
  v1::ExplainRequest request;
  *request.mutable_prompt() = Request(4096, 1).prompt();
  EXPECT_EQ(ConvertExplain(request, TestShape())->engine.routing->top_n, 16);
  request.set_top_n(0);
  EXPECT_EQ(ConvertExplain(request, TestShape())->engine.routing->top_n, 8192);
  EXPECT_EQ(Refusal(ConvertExplain, request, ""), "");
  for (int32_t top_n : {-1, 8193, kHuge}) {
    request.set_top_n(top_n);
    EXPECT_EQ(Refusal(ConvertExplain, request, "top_n"),
              fmt::format("top_n is {}, range 0 to 8192", top_n));
  }
  request.set_top_n(8192);
  request.set_min_weight(std::nan(""));
  EXPECT_THAT(Refusal(ConvertExplain, request, "min_weight"), HasSubstr("range 0 to 1000"));
  request.clear_min_weight();
  request.set_model("other");
  EXPECT_EQ(ConvertExplain(request, TestShape()).status().code(), absl::StatusCode::kNotFound);
  request.clear_model();
  request.mutable_mask()->add_experts()->set_router(4);
  EXPECT_THAT(Refusal(ConvertExplain, request, "mask.experts[0].router"), HasSubstr("0 to 3"));
  request.clear_mask();
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  auto input = ConvertExplain(request, TestShape());
  EXPECT_EQ(ReasonOf(input.status()).reason, Reason::kContextTooLong);
  // A single token is enough.
  *request.mutable_prompt() = Request(1, 1).prompt();
  EXPECT_EQ(Refusal(ConvertExplain, request, ""), "");
}

std::vector<TokenActivation> Activations(const std::vector<size_t>& sizes) {
  std::vector<TokenActivation> activations;
  for (size_t size : sizes) {
    TokenActivation& activation = activations.emplace_back();
    activation.position = static_cast<int32_t>(activations.size()) + (1 << 20);
    activation.router = 1023;
    activation.active_experts = 4096 * 4096;
    activation.removed_weight = 0.5f;
    activation.experts.assign(size, {.i = 4095, .j = 4094, .weight = 0.25f, .removed = true});
  }
  return activations;
}

size_t Bytes(std::span<const TokenActivation> piece) {
  v1::ExplainResponse message;
  AddActivations(piece, message.mutable_activations());
  return message.ByteSizeLong();
}

TEST(SplitActivations, KeepsOrderAndSizeAndCutsNoneInTwo) {
  const auto activations = Activations({100, 0, 3, 900, 1, 8192, 2, 2, 0, 700, 400});
  const auto pieces = SplitActivations(activations, 15000);
  std::vector<TokenActivation> together;
  std::vector<size_t> sizes;
  for (const auto piece : pieces) {
    sizes.push_back(piece.size());
    EXPECT_TRUE(piece.size() == 1 || Bytes(piece) <= 15000u);
    together.insert(together.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(together, activations);
  // 103 experts and the next 900 would be 15 141 bytes; 8192 are more by themselves.
  EXPECT_THAT(sizes, ElementsAre(3, 2, 1, 4, 1));
  EXPECT_TRUE(SplitActivations({}, 15000).empty());
}

TEST(SplitActivations, TheLargestOfAllFitsAMessageWithRoom) {
  const auto activations = Activations({8192});
  EXPECT_LT(Bytes(activations), limits::kActivationMessageBytes / 4);
  // What all of return_routing may bring fits a response.
  EXPECT_LT(Bytes(Activations(std::vector<size_t>(4096, 1))) * (limits::kMaxRoutingEntries / 4096),
            limits::kMaxResponseBytes * 6 / 10);
}

}  // namespace
}  // namespace monet::server
