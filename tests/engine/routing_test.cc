// Routing that a request asks for: which tokens have it, and what bounds it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/engine/engine_core.h"
#include "runtime/limits.h"
#include "tests/engine/hash_model.h"
#include "tests/engine/recording_sink.h"

namespace monet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int32_t kVocabulary = 48;
constexpr int32_t kContext = 64;
constexpr MaskShape kShape{.routers = HashModel::kRouters, .experts = HashModel::kExperts};

class RoutingTest : public testing::Test {
 protected:
  RoutingTest() {
    StepLimits limits;
    limits.max_tokens = 48;
    limits.max_logit_rows = 48;
    limits.max_sequences = 4;
    limits.max_context = kContext;
    limits.kv_blocks = 64;
    limits.block_size = 4;
    limits.mask_slots = 2;
    model = std::make_unique<HashModel>(limits, kVocabulary,
                                        [this](int32_t tokens) { steps.push_back(tokens); });
    core = std::make_unique<EngineCore>(
        std::make_unique<SyncExecutor>(model.get()),
        TokenText{[](int32_t) { return std::string_view("a"); }, /*eos_id=*/-1}, EngineOptions{},
        [] { return Clock::time_point{}; });
  }

  static EngineRequest Request(EngineRequest::Kind kind, int32_t prompt) {
    EngineRequest request;
    request.kind = kind;
    for (int32_t n = 0; n < prompt; ++n) request.prompt_ids.push_back(3 + n % 40);
    request.max_tokens = 4;
    request.mask = ExpertMask::None(kShape);
    request.routing = RoutingSelection{.top_n = 100};
    return request;
  }

  std::shared_ptr<RecordingSink> Add(const EngineRequest& request, int room = -1) {
    EXPECT_TRUE(core->Check(request).ok()) << Message(core->Check(request));
    auto sink = std::make_shared<RecordingSink>();
    sink->SetRoom(room);
    core->Add(++last_id, request, sink, Clock::time_point{});
    return sink;
  }

  void RunAll() {
    std::optional<StepReport> report;
    for (int step = 0; step < 1000 && core->RunStep(&report); ++step) {
    }
  }

  Record RunOne(const EngineRequest& request) {
    const auto sink = Add(request);
    RunAll();
    EXPECT_TRUE(sink->ended());
    EXPECT_TRUE(sink->record().result->status.ok());
    return sink->record();
  }

  static std::vector<int32_t> Positions(const Record& record) {
    std::vector<int32_t> positions;
    for (const TokenActivation& activation : record.routing) {
      if (activation.router == 0) positions.push_back(activation.position);
    }
    EXPECT_EQ(positions.size() * HashModel::kRouters, record.routing.size());
    return positions;
  }

  std::vector<int32_t> steps;  // rows of each
  std::unique_ptr<HashModel> model;
  std::unique_ptr<EngineCore> core;
  Engine::RequestId last_id = 0;
};

TEST_F(RoutingTest, EveryTokenThatRunsHasIt) {
  EXPECT_THAT(Positions(RunOne(Request(EngineRequest::Kind::kGenerate, 3))),
              ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(Positions(RunOne(Request(EngineRequest::Kind::kScore, 3))), ElementsAre(0, 1));
  EXPECT_THAT(Positions(RunOne(Request(EngineRequest::Kind::kExplain, 3))), ElementsAre(0, 1, 2));
  EngineRequest request = Request(EngineRequest::Kind::kGenerate, 3);
  request.prompt_routing = false;
  EXPECT_THAT(Positions(RunOne(request)), ElementsAre(3, 4, 5));
  request.routing.reset();
  EXPECT_THAT(RunOne(request).routing, IsEmpty());
}

TEST_F(RoutingTest, ExplainingIsGeneratingWithoutTheTokens) {
  const Record explained = RunOne(Request(EngineRequest::Kind::kExplain, 20));
  EXPECT_EQ(explained.token_ids, Request(EngineRequest::Kind::kExplain, 20).prompt_ids);
  EXPECT_THAT(explained.logprobs, IsEmpty());
  EXPECT_EQ(explained.text, "");
  EXPECT_EQ(explained.result->usage.prompt_tokens, 20);
  EXPECT_EQ(explained.result->usage.completion_tokens, 0);
  EngineRequest generate = Request(EngineRequest::Kind::kGenerate, 20);
  generate.max_tokens = 1;
  EXPECT_EQ(RunOne(generate).routing, explained.routing);
  // The whole context, and a single token.
  EXPECT_EQ(Positions(RunOne(Request(EngineRequest::Kind::kExplain, kContext))).size(), 64u);
  EXPECT_THAT(Positions(RunOne(Request(EngineRequest::Kind::kExplain, 1))), ElementsAre(0));
}

TEST_F(RoutingTest, OutputIsTheSameWithAndWithoutIt) {
  EngineRequest request = Request(EngineRequest::Kind::kGenerate, 9);
  request.logprobs = true;
  const Record with = RunOne(request);
  request.routing.reset();
  const Record without = RunOne(request);
  EXPECT_EQ(with.token_ids, without.token_ids);
  EXPECT_EQ(with.logprobs, without.logprobs);
}

TEST_F(RoutingTest, TheMaskMarksWhatItRemoves) {
  EngineRequest request = Request(EngineRequest::Kind::kExplain, 6);
  request.mask = *ExpertMask::FromBitmap(kShape, {0x21, 0x40, 0xFF, 0xFF});
  int removed = 0;
  for (const TokenActivation& activation : RunOne(request).routing) {
    double weight = 0;
    for (const ActiveExpert& expert : activation.experts) {
      EXPECT_EQ(expert.removed, request.mask->Removes(activation.router, expert.i, expert.j));
      if (expert.removed) weight += expert.weight;
      removed += activation.router == 0 && expert.removed;
    }
    EXPECT_NEAR(activation.removed_weight, weight, 1e-5);
  }
  EXPECT_GT(removed, 0);
}

// What a sequence keeps back while its client takes nothing is one step's, and a step is small when
// much is asked of each token.
TEST_F(RoutingTest, AStalledClientHoldsOneChunk) {
  EngineRequest request = Request(EngineRequest::Kind::kExplain, 60);
  request.routing->top_n = limits::kMaxExplainTopN;
  const int64_t rows = limits::kMaxStepActivations / (HashModel::kRouters * 8192);
  ASSERT_LT(rows, 48);
  const auto sink = Add(request, /*room=*/0);
  RunAll();
  EXPECT_THAT(steps, ElementsAre(rows));
  EXPECT_THAT(sink->record().routing, IsEmpty());
  sink->SetRoom(-1);
  core->Resume(last_id);
  RunAll();
  EXPECT_THAT(steps, ElementsAre(rows, 60 - rows));
  EXPECT_EQ(Positions(sink->record()).size(), 60u);
  EXPECT_TRUE(sink->record().result->status.ok());
}

TEST_F(RoutingTest, GatesThatAreNoNumbersEndTheirRequestOnly) {
  model->set_bad_token(5);
  EngineRequest request = Request(EngineRequest::Kind::kExplain, 2);
  const auto healthy = Add(request);
  request.prompt_ids = {3, 5, 7};
  const auto bad = Add(request);
  RunAll();
  EXPECT_EQ(bad->record().result->status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(healthy->record().result->status.ok());
}

TEST_F(RoutingTest, RefusesWhatIsOutOfRange) {
  const auto refusal = [&](auto change) {
    EngineRequest request = Request(EngineRequest::Kind::kExplain, 3);
    change(request);
    return Message(core->Check(request));
  };
  using R = EngineRequest;
  EXPECT_THAT(refusal([](R& r) { r.routing->top_n = 0; }), HasSubstr("top_n is 0"));
  EXPECT_THAT(refusal([](R& r) { r.routing->top_n = 8193; }), HasSubstr("from 1 to 8192"));
  EXPECT_THAT(refusal([](R& r) { r.routing->min_weight = -1; }), HasSubstr("min_weight is -1"));
  EXPECT_THAT(refusal([](R& r) { r.routing->min_weight = std::nan(""); }), HasSubstr("min_weight"));
  EXPECT_THAT(refusal([](R& r) { r.routing.reset(); }), HasSubstr("which routing"));
  EXPECT_THAT(refusal([](R& r) { r.prompt_ids.clear(); }), HasSubstr("from 1 to the context's 64"));
  EXPECT_THAT(refusal([](R& r) { r.prompt_ids.assign(65, 3); }), HasSubstr("has 65 tokens"));
}

}  // namespace
}  // namespace monet
