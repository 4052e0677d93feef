#include "runtime/sched/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

namespace monet {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Digest Mask(uint8_t n) {
  Digest digest;
  digest.bytes[0] = n;
  return digest;
}

SchedulerOptions SmallOptions() {
  SchedulerOptions options;
  options.max_tokens = 16;
  options.max_logit_rows = 16;
  options.max_sequences = 8;
  options.max_context = 64;
  options.kv_blocks = 16;
  options.block_size = 4;
  options.mask_slots = 2;
  return options;
}

// Drives a scheduler as the engine does: events collect until the next Step.
class Driver {
 public:
  explicit Driver(const SchedulerOptions& options) : scheduler(options) {}

  void Generate(SequenceId id, int32_t prompt, int32_t max_tokens, int mask = 0) {
    Arrival arrival;
    arrival.id = id;
    arrival.prompt_tokens = prompt;
    arrival.reserve_tokens = prompt + max_tokens;
    if (mask > 0) arrival.mask = Mask(static_cast<uint8_t>(mask));
    arrival.deadline = next_deadline;
    events.arrivals.push_back(arrival);
  }

  void Score(SequenceId id, int32_t rows) {
    Arrival arrival;
    arrival.id = id;
    arrival.score = true;
    arrival.prompt_tokens = rows;
    arrival.reserve_tokens = rows;
    events.arrivals.push_back(arrival);
  }

  const StepPlan& Step() {
    const StepPlan& plan = scheduler.Step(now, events);
    events = StepEvents();
    scheduler.CheckInvariants();
    return plan;
  }

  // "id:first+count", with a trailing "l" or "a" for logits of the last or of all rows.
  std::vector<std::string> Rows() {
    std::vector<std::string> rows;
    for (const PlanRows& entry : Step().rows) {
      const char* logits[] = {"", "l", "a"};
      rows.push_back(fmt::format("{}:{}+{}{}", entry.id, entry.first_position, entry.count,
                                 logits[static_cast<int>(entry.logits)]));
    }
    return rows;
  }

  Scheduler scheduler;
  StepEvents events;
  TimePoint now{};
  TimePoint next_deadline = TimePoint::max();
};

TEST(Scheduler, PrefillsInChunksThenDecodes) {
  Driver driver(SmallOptions());
  driver.Generate(1, 20, 3);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:0+16"));
  EXPECT_THAT(driver.Rows(), ElementsAre("1:16+4l"));
  EXPECT_THAT(driver.Rows(), ElementsAre("1:20+1l"));
  EXPECT_THAT(driver.Rows(), ElementsAre("1:21+1l"));
  driver.events.finished = {1};
  EXPECT_THAT(driver.Rows(), IsEmpty());
  EXPECT_EQ(driver.scheduler.running(), 0);
  EXPECT_EQ(driver.scheduler.blocks_used(), 0);
}

TEST(Scheduler, DecodesFirstAndPrefillsBeside) {
  Driver driver(SmallOptions());
  driver.Generate(1, 2, 8);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:0+2l"));
  driver.Generate(2, 5, 8);
  driver.Generate(3, 14, 8);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:2+1l", "2:0+5l", "3:0+10"));
  EXPECT_THAT(driver.Rows(), ElementsAre("1:3+1l", "2:5+1l", "3:10+4l"));
}

TEST(Scheduler, ReservesBlocksForPromptAndMaxTokens) {
  Driver driver(SmallOptions());
  driver.Generate(1, 7, 6);  // 13 positions of 4: 4 blocks
  EXPECT_EQ(driver.Step().rows[0].blocks.size(), 4u);
  EXPECT_EQ(driver.scheduler.blocks_used(), 4);
}

TEST(Scheduler, ScoresWithLogitsOfEveryRowWithinTheLimit) {
  SchedulerOptions options = SmallOptions();
  options.max_logit_rows = 6;
  Driver driver(options);
  driver.Score(1, 10);
  driver.Generate(2, 3, 4);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:0+6a", "2:0+2"));
  EXPECT_THAT(driver.Rows(), ElementsAre("1:6+4a", "2:2+1l"));
  driver.events.finished = {1};
  EXPECT_THAT(driver.Rows(), ElementsAre("2:3+1l"));
}

TEST(Scheduler, ExplainsWithoutLogitsInChunksOfItsOwnSize) {
  Driver driver(SmallOptions());
  Arrival arrival{.id = 1, .explain = true};
  arrival.prompt_tokens = 12;
  arrival.reserve_tokens = 12;
  arrival.max_chunk = 5;
  driver.events.arrivals.push_back(arrival);
  driver.Generate(2, 7, 8);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:0+5", "2:0+7l"));
  EXPECT_THAT(driver.Rows(), ElementsAre("2:7+1l", "1:5+5"));
  EXPECT_THAT(driver.Rows(), ElementsAre("2:8+1l", "1:10+2"));
  driver.events.finished = {1};
  EXPECT_THAT(driver.Rows(), ElementsAre("2:9+1l"));
}

TEST(Scheduler, ChunksFollowStepTimeBesideDecodeRows) {
  SchedulerOptions options = SmallOptions();
  options.step_target = milliseconds(10);
  Driver driver(options);
  driver.Generate(1, 1, 15);
  driver.Step();
  driver.Generate(2, 40, 1);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:1+1l", "2:0+15"));
  driver.events.step_duration = milliseconds(20);  // twice the target
  EXPECT_THAT(driver.Rows(), ElementsAre("1:2+1l", "2:15+8"));
  driver.events.step_duration = milliseconds(10);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:3+1l", "2:23+8"));
  driver.events.finished = {1};  // nobody waits for the step any more: full chunks
  EXPECT_THAT(driver.Rows(), ElementsAre("2:31+9l"));
}

TEST(Scheduler, AMaskThatLacksASlotHoldsUpNobody) {
  Driver driver(SmallOptions());
  driver.Generate(1, 1, 4, 1);
  driver.Generate(2, 1, 4, 2);
  driver.Generate(3, 1, 4, 3);  // both slots are taken
  driver.Generate(4, 1, 4, 2);  // shares
  driver.Generate(5, 1, 4);     // needs none
  const StepPlan& plan = driver.Step();
  EXPECT_THAT(plan.admitted, ElementsAre(1, 2, 4, 5));
  ASSERT_EQ(plan.fills.size(), 2u);
  EXPECT_EQ(plan.rows[1].mask_slot, plan.rows[2].mask_slot);
  EXPECT_EQ(plan.rows[3].mask_slot, -1);
  EXPECT_EQ(driver.scheduler.mask_slots_used(), 2);

  driver.events.finished = {2};  // 4 still holds the slot
  EXPECT_THAT(driver.Step().admitted, IsEmpty());
  driver.events.finished = {4};
  const StepPlan& last = driver.Step();
  EXPECT_THAT(last.admitted, ElementsAre(3));
  ASSERT_EQ(last.fills.size(), 1u);
  EXPECT_EQ(last.fills[0].id, 3u);
  EXPECT_EQ(last.fills[0].slot, last.rows.back().mask_slot);
}

TEST(Scheduler, ARequestThatLacksBlocksHoldsUpNobody) {
  Driver driver(SmallOptions());
  driver.Generate(1, 4, 36);  // 10 of 16 blocks
  driver.Generate(2, 4, 28);  // 8
  driver.Generate(3, 4, 20);  // 6
  EXPECT_THAT(driver.Step().admitted, ElementsAre(1, 3));
  driver.events.finished = {1};
  EXPECT_THAT(driver.Step().admitted, ElementsAre(2));
}

TEST(Scheduler, ABigRequestIsBypassedABoundedNumberOfTimes) {
  SchedulerOptions options = SmallOptions();
  options.block_size = 16;
  options.max_context = 256;
  options.max_bypass = 3;
  Driver driver(options);
  driver.Generate(1, 4, 28);   // 2 blocks
  driver.Generate(2, 4, 236);  // 15 blocks: waits for 1
  SequenceId next = 3;
  std::vector<SequenceId> admitted;
  for (int step = 0; step < 10; ++step) {
    driver.Generate(next++, 4, 28);
    const StepPlan& plan = driver.Step();
    admitted.insert(admitted.end(), plan.admitted.begin(), plan.admitted.end());
  }
  EXPECT_THAT(admitted, ElementsAre(1, 3, 4, 5));  // then nobody overtakes any more
  driver.events.finished = {1, 3, 4, 5};
  EXPECT_THAT(driver.Step().admitted, ElementsAre(2));
  driver.events.finished = {2};
  EXPECT_THAT(driver.Step().admitted, ElementsAre(6, 7, 8, 9, 10, 11, 12));
}

TEST(Scheduler, AMaskIsBypassedABoundedNumberOfTimesByMaskedRequests) {
  SchedulerOptions options = SmallOptions();
  options.max_bypass = 2;
  options.mask_slots = 1;
  Driver driver(options);
  driver.Generate(1, 1, 3, 1);
  driver.Generate(2, 1, 3, 2);  // waits for the slot
  driver.Generate(3, 1, 3);     // needs no slot: passes and does not count
  for (SequenceId id = 4; id <= 6; ++id) driver.Generate(id, 1, 3, 1);  // would keep it taken
  driver.Generate(7, 1, 3);                                             // still passes
  EXPECT_THAT(driver.Step().admitted, ElementsAre(1, 3, 4, 5, 7));
  driver.events.finished = {1, 4, 5};
  EXPECT_THAT(driver.Step().admitted, ElementsAre(2));
  driver.events.finished = {2};
  EXPECT_THAT(driver.Step().admitted, ElementsAre(6));
}

TEST(Scheduler, DeadlinesEndWaitingAndRunningInTheNextStep) {
  SchedulerOptions options = SmallOptions();
  options.max_sequences = 1;
  Driver driver(options);
  driver.next_deadline = driver.now + milliseconds(10);
  driver.Generate(1, 4, 4, 1);
  driver.Generate(2, 4, 4);
  driver.next_deadline = driver.now + milliseconds(11);
  driver.Generate(3, 4, 4);
  driver.Step();
  EXPECT_EQ(driver.scheduler.NextDeadline(), driver.now + milliseconds(10));
  driver.now += milliseconds(10);
  const StepPlan& plan = driver.Step();
  ASSERT_EQ(plan.ended.size(), 2u);
  EXPECT_EQ(plan.ended[0].id, 1u);
  EXPECT_EQ(plan.ended[1].id, 2u);
  EXPECT_EQ(plan.ended[1].reason, EndReason::kDeadline);
  EXPECT_THAT(plan.admitted, ElementsAre(3));  // its place was free in the same step
  EXPECT_EQ(driver.scheduler.mask_slots_used(), 0);
}

TEST(Scheduler, CancelFreesBlocksAndSlotInTheSameStep) {
  Driver driver(SmallOptions());
  driver.Generate(1, 4, 60, 1);
  driver.Step();
  EXPECT_EQ(driver.scheduler.blocks_used(), 16);
  driver.Generate(2, 4, 60, 2);
  driver.Generate(3, 4, 60, 2);
  driver.events.cancels = {1, 3, 77};
  EXPECT_THAT(driver.Step().admitted, ElementsAre(2));
}

TEST(Scheduler, PausedSequencesGetNoRowsAndKeepTheirBlocks) {
  Driver driver(SmallOptions());
  driver.Generate(1, 2, 8);
  driver.Generate(2, 2, 8);
  driver.Step();
  driver.events.pauses = {1};
  EXPECT_THAT(driver.Rows(), ElementsAre("2:2+1l"));
  EXPECT_EQ(driver.scheduler.blocks_used(), 6);
  driver.events.resumes = {1};
  EXPECT_THAT(driver.Rows(), ElementsAre("1:2+1l", "2:3+1l"));
}

TEST(Scheduler, SharesScarceRowsFairly) {
  SchedulerOptions options = SmallOptions();
  options.max_tokens = 4;
  options.max_logit_rows = 4;
  Driver driver(options);
  for (SequenceId id = 1; id <= 7; ++id) driver.Generate(id, 1, 7);
  driver.Step();
  std::map<SequenceId, int> rows;
  for (int step = 0; step < 8; ++step) {
    for (const PlanRows& entry : driver.Step().rows) ++rows[entry.id];
  }
  ASSERT_EQ(rows.size(), 7u);
  for (const auto& [id, count] : rows) EXPECT_GE(count, 3) << id;
}

TEST(Scheduler, DecodeAndPrefillTakeTurnsWithOneRowAStep) {
  SchedulerOptions options = SmallOptions();
  options.max_tokens = 1;
  options.max_logit_rows = 1;
  Driver driver(options);
  driver.Generate(1, 1, 9);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:0+1l"));
  driver.Generate(2, 2, 9);
  EXPECT_THAT(driver.Rows(), ElementsAre("1:1+1l"));
  EXPECT_THAT(driver.Rows(), ElementsAre("2:0+1"));
  EXPECT_THAT(driver.Rows(), ElementsAre("1:2+1l"));
  EXPECT_THAT(driver.Rows(), ElementsAre("2:1+1l"));
}

TEST(Scheduler, RefusesWhatCanNeverRunAndNamesTheLimit) {
  SchedulerOptions options = SmallOptions();
  options.max_context = 100;
  options.mask_slots = 0;
  const Scheduler scheduler(options);
  Arrival arrival;
  arrival.prompt_tokens = 4;
  arrival.reserve_tokens = 64;
  EXPECT_TRUE(scheduler.Check(arrival).ok());
  arrival.reserve_tokens = 65;
  EXPECT_EQ(scheduler.Check(arrival).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(scheduler.Check(arrival)), HasSubstr("16"));
  arrival.reserve_tokens = 101;
  EXPECT_EQ(scheduler.Check(arrival).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(scheduler.Check(arrival)), HasSubstr("context is 100"));
  arrival.reserve_tokens = 8;
  arrival.mask = Mask(1);
  EXPECT_EQ(scheduler.Check(arrival).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(scheduler.Check(arrival)), HasSubstr("mask slots"));
}

}  // namespace
}  // namespace monet
