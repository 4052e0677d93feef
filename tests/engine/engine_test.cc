// The engine with its thread. Run under the tsan preset too.
#include "runtime/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <set>
#include <thread>

#include "runtime/base/reasons.h"
#include "runtime/tokenizer/stream_decoder.h"
#include "tests/engine/engine_fixture.h"

namespace monet {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

TEST_F(EngineTest, ConcurrentRequestsGetWhatTheyGetAlone) {
  Start();
  std::vector<Record> alone;
  for (uint64_t n = 0; n < 12; ++n) {
    EngineRequest request = Generate(20, n);
    if (n % 3 > 0) request.mask = Mask(static_cast<uint8_t>(n));
    const auto sink = Submit(request);
    ASSERT_TRUE(sink->WaitForEnd());
    alone.push_back(sink->record());
    EXPECT_EQ(alone.back().token_ids.size(), 20u);
  }
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t n = 0; n < 12; ++n) {
    EngineRequest request = Generate(20, n);
    if (n % 3 > 0) request.mask = Mask(static_cast<uint8_t>(n));
    sinks.push_back(Submit(request));
  }
  for (uint64_t n = 0; n < 12; ++n) {
    ASSERT_TRUE(sinks[n]->WaitForEnd());
    EXPECT_EQ(sinks[n]->record().text, alone[n].text);
    EXPECT_EQ(sinks[n]->record().logprobs, alone[n].logprobs);
  }
  engine->Drain(Clock::time_point::max());
  EXPECT_EQ(engine->Stats().generation_tokens, 2 * 12 * 20);
  EXPECT_EQ(engine->Stats().kv_blocks_used, 0);
  EXPECT_EQ(engine->Stats().running, 0);
  EXPECT_EQ(engine->Stats().steps, steps_reported);
}

TEST_F(EngineTest, AFullQueueRefusesAtOnceAndNamesTheLimit) {
  EngineOptions options;
  options.max_queue = 2;
  StepLimits limits = TestLimits();
  limits.max_sequences = 1;
  Start(options, limits);
  gate.Close();
  const auto running = Submit(Generate(4));
  gate.AwaitArrival();
  const auto first = Submit(Generate(4));
  const auto second = Submit(Generate(4));
  const auto refused = engine->Submit(Generate(4), std::make_shared<RecordingSink>());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(refused.status()), HasSubstr("max_queue is 2"));
  EXPECT_EQ(engine->Stats().waiting, 2);
  gate.Open();
  for (const auto& sink : {running, first, second}) EXPECT_EQ(CodeOf(sink), absl::StatusCode::kOk);
}

TEST_F(EngineTest, SamplesOfOneRequestDifferRepeatAndScoreThePromptOnce) {
  Start();
  EngineRequest request = Generate(20);
  request.prompt_logprobs = true;
  request.routing = RoutingSelection{.top_n = 3};
  const auto run = [&] {
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    for (int n = 0; n < 4; ++n) sinks.push_back(std::make_shared<RecordingSink>());
    const auto ids = engine->SubmitSamples(request, {sinks.begin(), sinks.end()});
    EXPECT_TRUE(ids.ok() && ids->size() == 4);
    std::vector<Record> records;
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->WaitForEnd());
      records.push_back(sink->record());
    }
    return records;
  };
  const std::vector<Record> first = run();
  const std::vector<Record> second = run();
  std::set<std::vector<int32_t>> distinct;
  for (int n = 0; n < 4; ++n) {
    EXPECT_EQ(first[n].token_ids, second[n].token_ids);
    EXPECT_EQ(first[n].logprobs, second[n].logprobs);
    EXPECT_EQ(first[n].prompt.token_ids.size(), n == 0 ? 2u : 0u);
    // 3 tokens of the prompt, and all of the completion's 20 but the last.
    EXPECT_EQ(first[n].routing.size(), (n == 0 ? 22u : 19u) * HashModel::kRouters);
    EXPECT_EQ(first[n].routing, second[n].routing);
    distinct.insert(first[n].token_ids);
  }
  EXPECT_EQ(distinct.size(), 4u);
  // Sample 0 is what the request gives by itself.
  const auto alone = Submit(request);
  ASSERT_TRUE(alone->WaitForEnd());
  EXPECT_EQ(alone->record().token_ids, first[0].token_ids);
}

TEST_F(EngineTest, SamplesTakePlacesInTheQueueAllOrNone) {
  EngineOptions options;
  options.max_queue = 3;
  StepLimits limits = TestLimits();
  limits.max_sequences = 1;
  Start(options, limits);
  gate.Close();
  const auto running = Submit(Generate(4));
  gate.AwaitArrival();
  const auto waiting = Submit(Generate(4));
  const auto sink = std::make_shared<RecordingSink>();
  const auto refused = engine->SubmitSamples(Generate(4), {sink, sink, sink});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(refused.status()), HasSubstr("no room for n = 3: max_queue is 3"));
  EXPECT_EQ(engine->Stats().waiting, 1);
  const auto first = std::make_shared<RecordingSink>();
  const auto second = std::make_shared<RecordingSink>();
  EXPECT_TRUE(engine->SubmitSamples(Generate(4), {first, second}).ok());
  gate.Open();
  for (const auto& s : {running, waiting, first, second}) {
    EXPECT_EQ(CodeOf(s), absl::StatusCode::kOk);
  }
  EXPECT_FALSE(sink->ended());
}

TEST_F(EngineTest, RefusesWhatCanNeverRunWithoutCallingTheSink) {
  Start();
  const auto sink = std::make_shared<RecordingSink>();
  EXPECT_EQ(engine->Submit(Generate(64), sink).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(sink->ended());
}

TEST_F(EngineTest, CancelEndsRunningAndWaitingWithinAStep) {
  StepLimits limits = TestLimits();
  limits.max_sequences = 1;
  Start({}, limits);
  gate.Close();
  const auto running = Submit(Generate(60));
  const Engine::RequestId running_id = last_id;
  gate.AwaitArrival();
  const auto waiting = Submit(Generate(4));
  engine->Cancel(last_id);
  engine->Cancel(running_id);
  engine->Cancel(running_id);  // twice is once
  engine->Cancel(4711);
  gate.Open();
  EXPECT_EQ(CodeOf(running), absl::StatusCode::kCancelled);
  EXPECT_EQ(CodeOf(waiting), absl::StatusCode::kCancelled);
  EXPECT_LE(running->record().token_ids.size(), 1u);
  EXPECT_EQ(CodeOf(Submit(Generate(4))), absl::StatusCode::kOk);
}

TEST_F(EngineTest, DeadlinesEndStalledIdleAndWaitingRequests) {
  StepLimits limits = TestLimits();
  limits.max_sequences = 1;
  Start({}, limits);
  // Stalled: the engine is idle when the deadline comes, and must wake by itself.
  EngineRequest request = Generate(10);
  request.deadline = Clock::now() + milliseconds(50);
  const auto stalled = Submit(request, 0);
  const auto waiting = Submit(request);
  EXPECT_EQ(CodeOf(stalled), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(CodeOf(waiting), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(Clock::now(), request.deadline);
}

TEST_F(EngineTest, FiftyStalledClientsDoNotDisturbTheOthers) {
  StepLimits limits = TestLimits();
  limits.max_sequences = 64;
  limits.kv_blocks = 1024;
  Start({}, limits);
  std::vector<std::shared_ptr<RecordingSink>> stalled;
  std::vector<Engine::RequestId> ids;
  for (uint64_t n = 0; n < 50; ++n) {
    stalled.push_back(Submit(Generate(30, n), static_cast<int>(n % 3)));
    ids.push_back(last_id);
  }
  std::vector<std::shared_ptr<RecordingSink>> others;
  for (uint64_t n = 0; n < 10; ++n) others.push_back(Submit(Generate(30, n)));
  for (const auto& sink : others) EXPECT_EQ(CodeOf(sink), absl::StatusCode::kOk);
  for (const auto& sink : stalled) EXPECT_FALSE(sink->ended());
  // No step is spent on them.
  for (const auto& sink : stalled) EXPECT_TRUE(sink->WaitUntilAsked(1));
  std::this_thread::sleep_for(milliseconds(20));
  const int64_t steps = engine->Stats().steps;
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(engine->Stats().steps, steps);
  for (size_t n = 0; n < stalled.size(); ++n) {
    stalled[n]->SetRoom(-1);
    engine->Resume(ids[n]);
  }
  for (size_t n = 0; n < stalled.size(); ++n) {
    EXPECT_EQ(CodeOf(stalled[n]), absl::StatusCode::kOk);
    EXPECT_EQ(stalled[n]->record().token_ids.size(), 30u);
    EXPECT_TRUE(n >= 10 || stalled[n]->record().text == others[n]->record().text);
  }
}

TEST_F(EngineTest, DrainFinishesWhatRunsAndRefusesWhatComes) {
  Start();
  gate.Close();
  const auto running = Submit(Generate(20));
  gate.AwaitArrival();
  std::thread drain([this] { engine->Drain(Clock::time_point::max()); });
  while (true) {  // until the drain has begun
    const auto sink = std::make_shared<RecordingSink>();
    const auto id = engine->Submit(Generate(1), sink);
    if (id.ok()) continue;
    if (id.status().code() == absl::StatusCode::kResourceExhausted) continue;
    EXPECT_EQ(id.status().code(), absl::StatusCode::kUnavailable);
    break;
  }
  gate.Open();
  drain.join();
  ASSERT_TRUE(running->ended());
  EXPECT_TRUE(running->record().result->status.ok());
  EXPECT_EQ(running->record().token_ids.size(), 20u);
  engine->Drain(Clock::time_point::max());  // again: nothing left, returns at once
}

TEST_F(EngineTest, DrainCancelsTheRestAtItsDeadline) {
  Start();
  const auto stalled = Submit(Generate(20), 0);
  const auto finished = Submit(Generate(1), 0);  // complete, but its client does not read
  engine->Drain(Clock::now() + milliseconds(50));
  ASSERT_TRUE(stalled->ended());
  ASSERT_TRUE(finished->ended());
  EXPECT_EQ(stalled->record().result->status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(finished->record().result->status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, TheDestructorEndsEverythingOnce) {
  StepLimits limits = TestLimits();
  limits.max_sequences = 2;
  Start({}, limits);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int n = 0; n < 6; ++n) sinks.push_back(Submit(Generate(60), n == 0 ? 0 : -1));
  engine.reset();
  for (const auto& sink : sinks) {
    ASSERT_TRUE(sink->ended());
    EXPECT_THAT(sink->record().result->status.code(),
                testing::AnyOf(absl::StatusCode::kCancelled, absl::StatusCode::kOk));
  }
}

TEST_F(EngineTest, TheHeartbeatGoesOnWhileIdleAndStopsInAStuckStep) {
  Start();
  const Clock::time_point first = engine->Stats().last_step;
  for (int n = 0; n < 600 && engine->Stats().last_step == first; ++n) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_GT(engine->Stats().last_step, first);
  EXPECT_EQ(engine->Stats().steps, 0);
  gate.Close();
  const auto sink = Submit(Generate(1));
  gate.AwaitArrival();
  const Clock::time_point stuck = engine->Stats().last_step;
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(engine->Stats().last_step, stuck);
  gate.Open();
  EXPECT_EQ(CodeOf(sink), absl::StatusCode::kOk);
}

// Everything at once from several threads; each request still ends once, with its own tokens.
TEST_F(EngineTest, SurvivesManyCallers) {
  EngineOptions options;
  options.max_queue = 8;
  Start(options);
  std::atomic<int> ended = 0;
  std::atomic<int> refused = 0;
  std::vector<std::thread> callers;
  for (uint32_t caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      std::mt19937 random(caller);
      for (int n = 0; n < 60; ++n) {
        EngineRequest request = Generate(1 + static_cast<int32_t>(random() % 20), random());
        if (random() % 2 == 0) request.mask = Mask(static_cast<uint8_t>(1 + random() % 4));
        if (random() % 8 == 0) request.deadline = Clock::now() + milliseconds(random() % 5);
        const bool stalls = random() % 3 == 0;
        const auto sink = std::make_shared<RecordingSink>();
        if (stalls) sink->SetRoom(1);
        const auto id = engine->Submit(request, sink);
        if (!id.ok()) {
          EXPECT_EQ(id.status().code(), absl::StatusCode::kResourceExhausted);
          ++refused;
          std::this_thread::yield();
          continue;
        }
        if (random() % 5 == 0) engine->Cancel(*id);
        if (stalls) {
          sink->SetRoom(-1);
          engine->Resume(*id);
        }
        if (random() % 2 == 0) continue;  // leave it running
        EXPECT_TRUE(sink->WaitForEnd());
        ++ended;
        (void)engine->Stats();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  engine->Drain(Clock::time_point::max());
  EXPECT_GT(ended, 0);
  const EngineStats stats = engine->Stats();
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_EQ(stats.kv_blocks_used, 0);
  EXPECT_EQ(stats.mask_slots_used, 0);
}

// The public constructor, with the demo checkpoint's tokenizer.
TEST(EngineTokenizer, TextIsTheTokenizersBytes) {
  const auto tokenizer = Tokenizer::FromFile(MONET_SOURCE_DIR "/models/demo/tokenizer.model");
  ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  const TokenText text = TextOf(tokenizer->get());
  EXPECT_EQ(text.eos_id, (*tokenizer)->eos_id());
  EXPECT_EQ(text.bytes((*tokenizer)->vocabulary()), "");  // a padded model's ids
  HashModel model(TestLimits(), (*tokenizer)->vocabulary() + 8);
  Engine engine(&model, tokenizer->get(), {});
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(engine.Submit(Generate(40), sink).ok());
  ASSERT_TRUE(sink->WaitForEnd());
  StreamDecoder decoder({});
  std::string expected;
  for (int32_t id : sink->record().token_ids) expected += decoder.Push(text.bytes(id));
  expected += decoder.Flush();
  EXPECT_EQ(sink->record().text, expected);
  EXPECT_FALSE(expected.empty());
}

}  // namespace
}  // namespace monet
