// What a request may ask beside its prompt: when stops count, penalties, log-probabilities.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/engine_core_fixture.h"

namespace monet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(EngineCoreTest, MinTokensKeepsEveryStopAway) {
  // Eos is next from position 3 on: while it may not come, the lowest id of the rest does.
  Start({3, 4, 5, kEos, kEos, kEos, kEos, kEos});
  EngineRequest request = Generate({3}, 10);
  request.min_tokens = 4;
  const Record record = RunOne(request);
  EXPECT_THAT(record.token_ids, ElementsAre(4, 5, 0, 0, kEos));
  EXPECT_EQ(record.result->stop_token_id, kEos);
  request.stop_token_ids = {0, 5};
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(4, 1, 1, 1, kEos));

  // The text of the first tokens is not searched for stop strings, that of later ones is.
  Start({3, 4, 4, 4, 4, 4});
  request = Generate({3}, 10);
  request.stop_strings = {"bb"};
  EXPECT_EQ(RunOne(request).text, "");
  request.min_tokens = 3;
  EXPECT_EQ(RunOne(request).text, "bbb");
  EXPECT_EQ(RunOne(request).result->stop_string, "bb");
  EXPECT_EQ(RunOne(request).result->usage.completion_tokens, 5);
}

TEST_F(EngineCoreTest, IgnoreEosGoesOnUnlessEosIsAStopToken) {
  Start({3, kEos, 5, kEos, 7});
  EngineRequest request = Generate({3}, 4);
  request.ignore_eos = true;
  const Record record = RunOne(request);
  EXPECT_THAT(record.token_ids, ElementsAre(kEos, 5, kEos, 7));
  EXPECT_EQ(record.text, "ce");
  EXPECT_EQ(record.result->finish_reason, FinishReason::kLength);
  EXPECT_EQ(record.result->stop_token_id, -1);
  // It is no stop, so min_tokens does not keep it away.
  request.min_tokens = 4;
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(kEos, 5, kEos, 7));
  request.min_tokens = 0;
  request.stop_token_ids = {kEos};
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(kEos));
}

TEST_F(EngineCoreTest, PenaltiesSeePromptAndOutput) {
  // The script gives token 4 a logit of 100 everywhere, all others 0.
  Start(std::vector<int32_t>(16, 4));
  EngineRequest request = Generate({3}, 4);
  request.sampling.logit_bias = {{4, -97}};  // 3
  request.sampling.frequency_penalty = 2;
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(4, 4, 0, 1));
  request.sampling.frequency_penalty = 0;
  request.sampling.presence_penalty = 2;
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(4, 4, 4, 4));
  request.sampling.logit_bias = {{4, -98.5}};
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(4, 0, 1, kEos));
  // The prompt counts for the repetition penalty, and only for it: 2 becomes 1 < 1.5.
  request.sampling = {};
  request.sampling.temperature = 0;
  request.sampling.logit_bias = {{4, -98}, {9, 1.5}};
  request.sampling.repetition_penalty = 2;
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(4, 9, 4, 4));
  request.prompt_ids = {3, 4};
  EXPECT_THAT(RunOne(request).token_ids, ElementsAre(9, 4, 4, 4));
}

TEST_F(EngineCoreTest, PromptLogprobsAreTheScoresAndChangeNothingElse) {
  Start();
  EngineRequest request = Generate({3, 4, 9, 6, 7, 8, 9, 10, 11, 12, 13}, 4);
  request.logprobs = true;
  const Record plain = RunOne(request);
  request.prompt_logprobs = true;
  request.top_logprobs = 2;
  const Record record = RunOne(request);
  EXPECT_EQ(record.token_ids, plain.token_ids);
  EXPECT_EQ(record.logprobs, plain.logprobs);
  EXPECT_EQ(record.text, plain.text);
  EngineRequest score = request;
  score.kind = EngineRequest::Kind::kScore;
  score.logprobs = false;
  score.prompt_logprobs = false;
  const Record scored = RunOne(score);
  EXPECT_EQ(record.prompt.token_ids, scored.token_ids);
  EXPECT_EQ(record.prompt.logprobs, scored.logprobs);
  ASSERT_EQ(record.prompt.top.size(), 10u);
  ASSERT_EQ(record.top_logprobs.size(), 4u);
  // At position 1 the script says 5 and the prompt 9; of the others the lowest id is next.
  ASSERT_EQ(record.prompt.top[1].size(), 2u);
  EXPECT_EQ(record.prompt.top[1][0].id, 5);
  EXPECT_EQ(record.prompt.top[1][1].id, 0);
  EXPECT_EQ(record.top_logprobs[0][0].id, record.token_ids[0]);
  EXPECT_EQ(record.top_logprobs[0][0].logprob, record.logprobs[0]);
  EXPECT_EQ(record.result->usage.completion_tokens, 4);

  // A prompt of one token has none; alternatives follow what they are beside.
  request.prompt_ids = {3};
  EXPECT_THAT(RunOne(request).prompt.token_ids, IsEmpty());
  request.logprobs = false;
  EXPECT_THAT(RunOne(request).top_logprobs, IsEmpty());
}

TEST_F(EngineCoreTest, AStallWhileThePromptIsScoredLosesNothing) {
  Start();
  EngineRequest request = Generate(std::vector<int32_t>(20, 5), 3);
  request.prompt_logprobs = true;
  const auto sink = Add(request, /*room=*/1);
  RunAll();
  EXPECT_EQ(sink->record().prompt.token_ids.size(), 8u);  // one step's rows
  EXPECT_EQ(model->steps(), 2);
  sink->SetRoom(-1);
  core->Resume(last_id);
  RunAll();
  EXPECT_EQ(sink->record().prompt.token_ids.size(), 19u);
  EXPECT_EQ(sink->record().token_ids.size(), 3u);
  EXPECT_TRUE(sink->record().result->status.ok());
}

}  // namespace
}  // namespace monet
