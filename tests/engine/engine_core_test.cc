#include "runtime/engine/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "tests/engine/engine_core_fixture.h"

namespace monet {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// One logit of every row with token 31 is not a number, or infinite.
class BadModel final : public StepModel {
 public:
  BadModel(ScriptedModel* inner, float bad) : inner_(inner), bad_(bad) {}
  int32_t vocabulary() const override { return inner_->vocabulary(); }
  double routing_weight_per_token() const override { return 4; }
  const StepLimits& limits() const override { return inner_->limits(); }
  void SetMask(int32_t, const ExpertMask&) override {}
  StepOutput Run(const StepBatch& batch) override {
    StepOutput output = inner_->Run(batch);
    logits_.assign(output.logits.begin(), output.logits.end());
    for (size_t n = 0; n < batch.logit_rows.size(); ++n) {
      if (batch.token_ids[batch.logit_rows[n]] == 31) {
        logits_[n * ScriptedModel::kVocabulary + 17] = bad_;
      }
    }
    output.logits = logits_;
    return output;
  }

 private:
  ScriptedModel* inner_;
  float bad_;
  std::vector<float> logits_;
};

TEST_F(EngineCoreTest, EndsAtMaxTokens) {
  Start();
  const Record record = RunOne(Generate({3, 4}, 3));
  EXPECT_EQ(record.text, "cde");
  EXPECT_THAT(record.token_ids, ElementsAre(5, 6, 7));
  EXPECT_THAT(record.logprobs, IsEmpty());
  EXPECT_EQ(record.deltas, 3);
  ASSERT_TRUE(record.result->status.ok());
  EXPECT_EQ(record.result->finish_reason, FinishReason::kLength);
  EXPECT_EQ(record.result->usage.prompt_tokens, 2);
  EXPECT_EQ(record.result->usage.completion_tokens, 3);
  EXPECT_EQ(record.result->usage.removed_weight_share, 0);
  EXPECT_EQ(core->Stats().prompt_tokens, 2);
  EXPECT_EQ(core->Stats().generation_tokens, 3);
  EXPECT_EQ(core->Stats().steps, 3);
}

TEST_F(EngineCoreTest, EosEndsWithoutTextAndCounts) {
  Start({3, 4, 5, kEos});
  const Record record = RunOne(Generate({3}, 10));
  EXPECT_EQ(record.text, "bc");
  EXPECT_THAT(record.token_ids, ElementsAre(4, 5, kEos));
  EXPECT_EQ(record.result->finish_reason, FinishReason::kStop);
  EXPECT_EQ(record.result->stop_token_id, kEos);
  EXPECT_EQ(record.result->usage.completion_tokens, 3);
}

TEST_F(EngineCoreTest, AStopTokenAddsNoTextButFreesWhatWasHeldBack) {
  Start();
  EngineRequest request = Generate({3}, 10);
  request.stop_strings = {"cdX"};  // holds "cd" back
  request.stop_token_ids = {7};    // "e"
  const Record record = RunOne(std::move(request));
  EXPECT_EQ(record.text, "bcd");
  EXPECT_THAT(record.token_ids, ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(record.result->stop_token_id, 7);
  EXPECT_EQ(record.result->stop_string, "");
}

TEST_F(EngineCoreTest, AStopStringAcrossTokensCutsTheTextBeforeIt) {
  Start();
  EngineRequest request = Generate({3}, 10);
  request.stop_strings = {"zz", "def"};
  request.logprobs = true;
  const Record record = RunOne(std::move(request));
  EXPECT_EQ(record.text, "bc");
  EXPECT_THAT(record.token_ids, ElementsAre(4, 5, 6, 7, 8));  // also those whose text is cut
  EXPECT_EQ(record.logprobs.size(), 5u);
  EXPECT_EQ(record.result->finish_reason, FinishReason::kStop);
  EXPECT_EQ(record.result->stop_string, "def");
  EXPECT_EQ(record.result->stop_token_id, -1);
}

TEST_F(EngineCoreTest, AStopWinsOverTheLengthOnTheLastToken) {
  Start();
  EngineRequest request = Generate({3}, 3);
  request.stop_strings = {"cd"};
  EXPECT_EQ(RunOne(request).result->finish_reason, FinishReason::kStop);
  request.stop_strings = {};
  request.stop_token_ids = {6};
  EXPECT_EQ(RunOne(request).result->finish_reason, FinishReason::kStop);
}

TEST_F(EngineCoreTest, TextIsWholeCharactersAndTheEndIsReplaced) {
  Start({3, 28, 29, 28});
  EXPECT_EQ(RunOne(Generate({3}, 2)).text, "é");
  const auto sink = Add(Generate({3}, 3));
  Step();
  EXPECT_EQ(sink->record().text, "");
  EXPECT_THAT(sink->record().token_ids, ElementsAre(28));  // its text comes later
  RunAll();
  EXPECT_EQ(sink->record().text, "é\uFFFD");
}

TEST_F(EngineCoreTest, ScoresEveryTokenButTheFirst) {
  Start();
  EngineRequest request = Generate({3, 4, 9, 6, 7, 8, 9, 10, 11, 12, 13}, 0);
  request.kind = EngineRequest::Kind::kScore;
  const Record record = RunOne(std::move(request));
  EXPECT_THAT(record.token_ids, ElementsAre(4, 9, 6, 7, 8, 9, 10, 11, 12, 13));
  ASSERT_EQ(record.logprobs.size(), 10u);
  for (size_t n = 0; n < 10; ++n) {
    // All but token 9 at position 2, where the script says 5.
    EXPECT_NEAR(record.logprobs[n], n == 1 ? -100 : 0, 1e-3) << n;
  }
  EXPECT_EQ(record.text, "");
  EXPECT_EQ(record.deltas, 2);  // 8 rows, then 2
  EXPECT_TRUE(record.result->status.ok());
  EXPECT_EQ(record.result->usage.prompt_tokens, 11);
  EXPECT_EQ(record.result->usage.completion_tokens, 0);
}

TEST_F(EngineCoreTest, ReportsTheShareOfRoutingWeightRemoved) {
  Start();
  EngineRequest request = Generate({3, 4, 5}, 4);
  request.mask = *ExpertMask::FromBitmap(kShape, {1, 0});
  EXPECT_EQ(RunOne(std::move(request)).result->usage.removed_weight_share, 0.25);
}

TEST_F(EngineCoreTest, TellsQueueTimeAndTimeToFirstToken) {
  Start();
  const auto sink = Add(Generate({3, 4, 5, 6, 7, 8, 9, 10, 11}, 2));
  now += milliseconds(5);
  RunAll();
  EXPECT_EQ(sink->record().result->queue_time, milliseconds(5));
  EXPECT_EQ(sink->record().result->time_to_first_token, milliseconds(25));  // two prefill steps
}

TEST_F(EngineCoreTest, ANotFiniteRowEndsItsRequestOnly) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Start();
    BadModel bad_model(model.get(), bad);
    core = std::make_unique<EngineCore>(std::make_unique<SyncExecutor>(&bad_model),
                                        TokenText{BytesOf, kEos}, EngineOptions(),
                                        [this] { return now; });
    const auto before = Add(Generate({3}, 4));
    const auto faulty = Add(Generate({3, 31}, 4));
    const auto after = Add(Generate({3}, 4));
    RunAll();
    EXPECT_EQ(faulty->record().result->status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(faulty->record().token_ids, IsEmpty());
    EXPECT_EQ(before->record().text, "bcde");
    EXPECT_EQ(after->record().text, "bcde");
    EXPECT_TRUE(core->idle());
    EXPECT_EQ(core->scheduler().blocks_used(), 0);
  }
}

TEST_F(EngineCoreTest, AFailedStepEndsWhatWasInItAndNothingElse) {
  Start();
  on_run = [this](const StepBatch&) {
    if (model->steps() == 1) throw std::runtime_error("/secret/path");
  };
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int n = 0; n < 5; ++n) sinks.push_back(Add(Generate({3}, 4)));  // the fifth waits
  Step();
  EXPECT_EQ(sinks[0]->record().token_ids.size(), 1u);
  Step();
  on_run = nullptr;
  for (int n = 0; n < 4; ++n) {
    ASSERT_TRUE(sinks[n]->ended());
    EXPECT_EQ(sinks[n]->record().result->status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(Message(sinks[n]->record().result->status), testing::Not(HasSubstr("secret")));
  }
  RunAll();
  EXPECT_EQ(sinks[4]->record().text, "bcde");
}

TEST_F(EngineCoreTest, AStalledSinkCostsNoStepsAndLosesNothing) {
  Start();
  const auto stalled = Add(Generate({3}, 6), /*room=*/1);
  RunAll();
  EXPECT_EQ(stalled->record().text, "b");
  EXPECT_EQ(model->steps(), 2);  // the second token waits in the engine
  EXPECT_FALSE(Step());
  EXPECT_EQ(model->steps(), 2);
  const auto other = Add(Generate({3}, 6));
  RunAll();
  EXPECT_EQ(other->record().text, "bcdefg");
  const int64_t steps = model->steps();

  core->Resume(last_id - 1);  // still no room
  EXPECT_FALSE(Step());
  EXPECT_EQ(model->steps(), steps);
  stalled->SetRoom(2);
  core->Resume(last_id - 1);
  EXPECT_EQ(stalled->record().text, "bc");  // what waited, at once
  RunAll();
  EXPECT_EQ(stalled->record().text, "bcd");
  stalled->SetRoom(-1);
  core->Resume(last_id - 1);
  RunAll();
  EXPECT_EQ(stalled->record().text, "bcdefg");
  EXPECT_TRUE(stalled->record().result->status.ok());
}

TEST_F(EngineCoreTest, AFinishedRequestWaitsForItsClientWithoutBlocks) {
  EngineOptions options;
  options.max_queue = 4;
  Start({}, SmallLimits(), options);
  const auto first = Add(Generate({3}, 1), 0);
  const auto second = Add(Generate({3}, 1), 0);
  EngineRequest request = Generate({3}, 1);
  request.deadline = now + milliseconds(50);
  const auto third = Add(request, 0);
  RunAll();
  Step();
  EXPECT_EQ(core->scheduler().blocks_used(), 0);
  EXPECT_EQ(core->queued(), 3);  // but they count against the queue's limit
  EXPECT_FALSE(core->idle());
  EXPECT_EQ(core->NextDeadline(), request.deadline);

  first->SetRoom(1);
  core->Resume(1);
  EXPECT_EQ(first->record().text, "b");
  EXPECT_TRUE(first->record().result->status.ok());
  core->Cancel(2, Error(absl::StatusCode::kCancelled, "test"));
  EXPECT_EQ(second->record().result->status.code(), absl::StatusCode::kCancelled);
  now = request.deadline;
  Step();
  EXPECT_EQ(third->record().result->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(core->idle());
  EXPECT_EQ(core->queued(), 0);
  EXPECT_THAT(core->TakeEnded(), ElementsAre(1, 2, 3));
}

TEST_F(EngineCoreTest, CancelAndDeadlineEndWithinAStep) {
  Start();
  const auto running = Add(Generate({3}, 20));
  EngineRequest late = Generate({3}, 20);
  late.deadline = now + milliseconds(15);
  const auto timed = Add(late);
  Step();
  core->Cancel(1, Error(absl::StatusCode::kUnavailable, "drained"));
  Step();
  EXPECT_EQ(running->record().result->status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(running->record().result->usage.completion_tokens, 1);
  Step();
  EXPECT_EQ(timed->record().result->status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(core->scheduler().blocks_used(), 0);
}

TEST_F(EngineCoreTest, RefusesBadRequestsNamingFieldAndLimit) {
  StepLimits limits = SmallLimits();
  limits.kv_blocks = 7;  // 28 tokens, less than the context
  limits.mask_slots = 0;
  Start({}, limits);
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  const auto refusal = [&](auto change) {
    EngineRequest request = Generate({3, 4}, 4);
    EXPECT_TRUE(core->Check(request).ok());
    change(request);
    return core->Check(request);
  };
  using R = EngineRequest;
  const auto invalid = [&](auto change, const char* text) {
    const absl::Status status = refusal(change);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(Message(status), HasSubstr(text));
  };
  invalid([](R& r) { r.prompt_ids.clear(); }, "prompt has 0 tokens");
  invalid([](R& r) { r.prompt_ids.assign(33, 3); }, "context's 32");
  invalid([](R& r) { r.prompt_ids.assign(32, 3); }, "max_tokens is 4");
  invalid([](R& r) { r.prompt_ids = {ScriptedModel::kVocabulary}; }, "from 0 to 31");
  invalid([](R& r) { r.prompt_ids = {-1}; }, "prompt has -1");
  invalid([](R& r) { r.max_tokens = 0; }, "max_tokens is 0");
  invalid([](R& r) { r.max_tokens = -kMax; }, "max_tokens");
  invalid([](R& r) { r.max_tokens = 31; }, "from 1 to 30");
  invalid([](R& r) { r.max_tokens = kMax; }, "from 1 to 30");
  invalid([](R& r) { r.sampling.temperature = std::nan(""); }, "temperature");
  invalid([](R& r) { r.sampling.top_k = 33; }, "top_k");
  invalid([](R& r) { r.stop_strings = {""}; }, "stop has a text of 0 bytes");
  invalid([](R& r) { r.stop_strings = {std::string(257, 'x')}; }, "from 1 to 256");
  invalid([](R& r) { r.stop_strings.assign(17, "x"); }, "limit 16");
  invalid([](R& r) { r.stop_token_ids = {32}; }, "stop_token_ids has 32");
  invalid([](R& r) { r.stop_token_ids.assign(65, 3); }, "limit 64");
  invalid([](R& r) { r.sampling.min_p = 2; }, "min_p");
  invalid([](R& r) { r.sampling.logit_bias = {{32, 0}}; }, "logit_bias has token 32");
  invalid([](R& r) { r.top_logprobs = 21; }, "top_logprobs is 21, must be from 0 to 20");
  invalid([](R& r) { r.min_tokens = -1; }, "min_tokens is -1, must be from 0 to max_tokens, 4");
  invalid([](R& r) { r.min_tokens = 5; }, "min_tokens is 5");
  invalid(
      [](R& r) {
        r.min_tokens = 1;
        for (int32_t id = 0; id < 31; ++id) r.stop_token_ids.push_back(id);
      },
      "leave no token");
  invalid([](R& r) { r.kind = R::Kind::kScore, r.prompt_ids = {3}; }, "from 2");
  EXPECT_EQ(refusal([](R& r) { r.mask = nullptr; }).code(), absl::StatusCode::kInternal);

  const absl::Status blocks = refusal([](R& r) { r.max_tokens = 30; });
  EXPECT_EQ(blocks.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(blocks), HasSubstr("the server has 7 (28 tokens)"));
  const absl::Status slots = refusal([](R& r) {
    r.mask = *ExpertMask::FromBitmap(kShape, {1, 0});
  });
  EXPECT_EQ(slots.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(slots), HasSubstr("mask slots"));
  // The whole context fits a score: its last token is not run.
  EXPECT_TRUE(refusal([](R& r) { r.kind = R::Kind::kScore, r.prompt_ids.assign(29, 3); }).ok());
}

}  // namespace
}  // namespace monet
