// One tenant's flood leaves places in the queue for others.
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "runtime/base/reasons.h"
#include "tests/engine/engine_fixture.h"

namespace monet {
namespace {

TEST_F(EngineTest, ASharedQueueKeepsPlacesForOtherTenants) {
  StartWithSharedQueue();
  gate.Close();
  const auto running = Submit(Generate(4));
  gate.AwaitArrival();
  const auto flood = [&](const char* tenant) {
    EngineRequest request = Generate(4);
    request.tenant = tenant;
    int taken = 0;
    for (int n = 0; n < 20; ++n) {
      const auto id = engine->Submit(request, std::make_shared<RecordingSink>());
      taken += id.ok();
      if (!id.ok()) {
        EXPECT_EQ(ReasonOf(id.status()).reason, Reason::kQueueFull);
      }
    }
    return taken;
  };
  EXPECT_EQ(flood("a"), 4);
  EXPECT_EQ(flood("b"), 2);
  EXPECT_EQ(flood("c"), 1);
  EXPECT_EQ(flood("d"), 1);
  EXPECT_EQ(flood("e"), 0);
  gate.Open();
  engine->Drain(Clock::time_point::max());
  EXPECT_EQ(CodeOf(running), absl::StatusCode::kOk);
}

// Many samples in one call are no way around the shares.
TEST_F(EngineTest, SamplesOfOneRequestKeepToTheSharesOfTheQueue) {
  StartWithSharedQueue();
  gate.Close();
  const auto running = Submit(Generate(4));
  gate.AwaitArrival();
  const auto taken = [&](const char* tenant, size_t samples) {
    EngineRequest request = Generate(4);
    request.tenant = tenant;
    std::vector<std::shared_ptr<EngineSink>> sinks;
    for (size_t n = 0; n < samples; ++n) sinks.push_back(std::make_shared<RecordingSink>());
    return engine->SubmitSamples(request, std::move(sinks)).ok();
  };
  EXPECT_TRUE(taken("a", 1));
  EXPECT_FALSE(taken("b", 7));  // would leave nothing
  EXPECT_FALSE(taken("b", 5));
  EXPECT_TRUE(taken("b", 4));
  EXPECT_FALSE(taken("c", 3));
  EXPECT_TRUE(taken("c", 2));
  EXPECT_TRUE(taken("d", 1));
  gate.Open();
  engine->Drain(Clock::time_point::max());
  EXPECT_EQ(CodeOf(running), absl::StatusCode::kOk);
}

TEST_F(EngineTest, ManySamplesFindAnEmptyQueue) {
  StartWithSharedQueue();
  std::vector<std::shared_ptr<EngineSink>> sinks;
  for (int n = 0; n < 8; ++n) sinks.push_back(std::make_shared<RecordingSink>());
  EXPECT_TRUE(engine->SubmitSamples(Generate(4), std::move(sinks)).ok());
  engine->Drain(Clock::time_point::max());
}

}  // namespace
}  // namespace monet
