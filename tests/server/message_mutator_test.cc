// The mutator of the fuzz target gets everywhere: from one good request it reaches every field that
// conversion can refuse, and requests that are good.
#include "tests/fuzz/message_mutator.h"

#include <gmock/gmock.h>
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>

#include "runtime/base/reasons.h"
#include "server/request_conversion.h"

namespace monet::server {
namespace {

using ::testing::IsSupersetOf;

TEST(MutateMessage, ReachesEveryField) {
  google::protobuf::SetLogHandler(nullptr);
  const ServedShape shape = {"demo", MaskShape{2, 5}, 100, 32};
  const std::regex index("[0-9]+");
  std::mt19937 random(1);
  std::set<std::string> refused;
  int accepted = 0;
  for (int i = 0; i < 60000; ++i) {
    v1::GenerateRequest request;
    request.mutable_prompt()->set_text("x");
    MutateMessage(&request, &random);
    const auto input = ConvertGenerate(request, shape);
    if (input.ok()) {
      ++accepted;
    } else {
      refused.insert(std::regex_replace(FieldOf(input.status()), index, "#"));
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_THAT(refused, IsSupersetOf({"n",
                                     "model",
                                     "request_id",
                                     "prompt",
                                     "prompt.text",
                                     "prompt.token_ids",
                                     "prompt.token_ids.ids[#]",
                                     "mask",
                                     "mask.policies",
                                     "mask.policies[#]",
                                     "mask.experts",
                                     "mask.experts[#].router",
                                     "mask.experts[#].ids[#]",
                                     "mask.experts[#].rows[#]",
                                     "mask.experts[#].columns[#]",
                                     "mask.experts[#].bitmap",
                                     "sampling.temperature",
                                     "sampling.top_k",
                                     "sampling.top_p",
                                     "sampling.min_p",
                                     "sampling.presence_penalty",
                                     "sampling.frequency_penalty",
                                     "sampling.repetition_penalty",
                                     "sampling.logit_bias",
                                     "sampling.logit_bias[#]",
                                     "stopping.max_tokens",
                                     "stopping.min_tokens",
                                     "stopping.stop",
                                     "stopping.stop[#]",
                                     "stopping.stop_token_ids",
                                     "stopping.stop_token_ids[#]",
                                     "logprob_options.top_logprobs"}));
}

TEST(MutateMessage, GivesTheSameFromTheSameNumbers) {
  std::string first;
  for (int run = 0; run < 2; ++run) {
    std::mt19937 random(7);
    v1::ScoreRequest request;
    for (int i = 0; i < 100; ++i) MutateMessage(&request, &random);
    const std::string bytes = request.SerializeAsString();
    if (run == 0) first = bytes;
    EXPECT_EQ(bytes, first);
  }
}

}  // namespace
}  // namespace monet::server
