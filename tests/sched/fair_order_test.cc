// Who goes first: tenants by what they have had, weights, priorities, a tenant's own mask slots.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "runtime/sched/scheduler.h"

namespace monet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

// A scheduler with `places`, whose running requests end when told.
class Desk {
 public:
  explicit Desk(int32_t places, int32_t mask_slots = 8)
      : scheduler([&] {
          SchedulerOptions options;
          options.max_sequences = places;
          options.max_context = 64;
          options.kv_blocks = 256;
          options.block_size = 4;
          options.mask_slots = mask_slots;
          options.max_queue = 4096;
          return options;
        }()) {}

  Arrival& Add(SequenceId id, const std::string& tenant, int32_t tokens = 8) {
    Arrival arrival;
    arrival.id = id;
    arrival.tenant = tenant;
    arrival.prompt_tokens = 1;
    arrival.reserve_tokens = tokens;
    return events.arrivals.emplace_back(arrival);
  }

  void SetMask(Arrival& arrival, uint8_t mask, int32_t max_mask_slots) {
    arrival.mask = Digest();
    arrival.mask->bytes[0] = mask;
    arrival.max_mask_slots = max_mask_slots;
  }

  std::vector<SequenceId> Step(std::vector<SequenceId> finished = {}) {
    events.finished = std::move(finished);
    const StepEvents now = std::exchange(events, {});
    const StepPlan& plan = scheduler.Step(TimePoint{}, now);
    scheduler.CheckInvariants();
    for (const PlanRows& rows : plan.rows) ++rows_[rows.id];
    return plan.admitted;
  }

  Scheduler scheduler;
  StepEvents events;
  std::map<SequenceId, int> rows_;
};

TEST(FairOrder, OneTenantIsServedInOrderOfArrival) {
  Desk desk(2);
  for (SequenceId id = 1; id <= 4; ++id) desk.Add(id, "a", static_cast<int32_t>(20 - id));
  EXPECT_THAT(desk.Step(), ElementsAre(1, 2));
  EXPECT_THAT(desk.Step({2}), ElementsAre(3));
  EXPECT_THAT(desk.Step({1}), ElementsAre(4));
}

TEST(FairOrder, AFloodWaitsBehindWhoComesLater) {
  Desk desk(1);
  for (SequenceId id = 1; id <= 50; ++id) desk.Add(id, "flood");
  EXPECT_THAT(desk.Step(), ElementsAre(1));
  desk.Add(100, "late");
  EXPECT_THAT(desk.Step(), IsEmpty());
  EXPECT_THAT(desk.Step({1}), ElementsAre(100));
  desk.Add(101, "late");
  EXPECT_THAT(desk.Step({100}), ElementsAre(2));  // in turns from now on
  EXPECT_THAT(desk.Step({2}), ElementsAre(101));
}

TEST(FairOrder, SharesFollowWeights) {
  Desk desk(1);
  SequenceId id = 0;
  std::map<SequenceId, std::string> owner;
  for (int n = 0; n < 400; ++n) {
    owner[++id] = "heavy";
    desk.Add(id, "heavy", 1 + n % 7).weight = 3;
    owner[++id] = "light";
    desk.Add(id, "light", 1 + n % 5).weight = 1;
  }
  std::map<std::string, int32_t> tokens;
  std::map<SequenceId, int32_t> size;
  for (const Arrival& arrival : desk.events.arrivals) size[arrival.id] = arrival.reserve_tokens;
  std::vector<SequenceId> running = desk.Step();
  for (int step = 0; step < 300; ++step) {
    ASSERT_EQ(running.size(), 1u);
    tokens[owner[running[0]]] += size[running[0]];
    // A request that ends early is charged what it used; here everyone uses all.
    while (desk.rows_[running[0]] < size[running[0]]) desk.Step();
    running = desk.Step(running);
  }
  EXPECT_NEAR(static_cast<double>(tokens["heavy"]) / tokens["light"], 3.0, 0.1);
}

TEST(FairOrder, WhatWasReservedAndNotUsedIsGivenBack) {
  Desk desk(1);
  desk.Add(1, "a", 60);  // ends after one row
  EXPECT_THAT(desk.Step(), ElementsAre(1));
  desk.Add(2, "a", 8);
  desk.Add(3, "b", 30);
  desk.Add(4, "b", 8);
  EXPECT_THAT(desk.Step(), IsEmpty());
  EXPECT_THAT(desk.Step({1}), ElementsAre(3));
  while (desk.rows_[3] < 5) desk.Step();
  EXPECT_THAT(desk.Step({3}), ElementsAre(2));
  EXPECT_THAT(desk.Step({2}), ElementsAre(4));
}

TEST(FairOrder, IdleTimeIsNotSavedUp) {
  Desk desk(1);
  desk.Add(1, "busy", 40);
  desk.Step();
  SequenceId next = 2;
  for (int n = 0; n < 20; ++n) {
    desk.Add(next, "busy", 40);
    while (desk.rows_[next - 1] < 40) desk.Step();
    desk.Step({next - 1});
    ++next;
  }
  // `idle` comes with twenty requests: not one after the other, but in turns.
  for (SequenceId id = 100; id < 120; ++id) desk.Add(id, "idle", 40);
  for (SequenceId id = 200; id < 220; ++id) desk.Add(id, "busy", 40);
  std::vector<SequenceId> running = {next - 1};
  int busy = 0;
  for (int n = 0; n < 20; ++n) {
    while (desk.rows_[running[0]] < 40) desk.Step();
    running = desk.Step(running);
    busy += running[0] >= 200;
  }
  EXPECT_GE(busy, 9);
  EXPECT_LE(busy, 11);
}

TEST(FairOrder, PriorityIsAHeadStartAndNoMore) {
  Desk desk(1);
  desk.Add(1, "a", 60);
  desk.Step();
  desk.Add(2, "a", 60);
  desk.Add(3, "b", 60);
  for (SequenceId id = 10; id < 20; ++id) desk.Add(id, "c", 60).priority = 2;
  std::vector<SequenceId> running = {1};
  std::vector<SequenceId> order;
  while (order.size() < 12) {
    while (desk.rows_[running[0]] < 60) desk.Step();
    running = desk.Step(running);
    ASSERT_EQ(running.size(), 1u);
    order.push_back(running[0]);
  }
  // Two contexts of 64 ahead: c is served thrice before b, which has had nothing.
  EXPECT_THAT(std::vector(order.begin(), order.begin() + 4), ElementsAre(10, 11, 12, 3));
  EXPECT_EQ(order[4], 13u);
  EXPECT_EQ(order[5], 2u);
}

TEST(FairOrder, PriorityGoesFirstWithinATenant) {
  Desk desk(1);
  desk.Add(1, "a");
  desk.Step();
  desk.Add(2, "a");
  desk.Add(3, "a").priority = 1;
  EXPECT_THAT(desk.Step({1}), ElementsAre(3));
}

TEST(FairOrder, ATenantsOwnMaskSlotsHoldUpNobodyElse) {
  Desk desk(16, /*mask_slots=*/4);
  for (uint8_t n = 1; n <= 4; ++n) desk.SetMask(desk.Add(n, "a"), n, 2);
  desk.SetMask(desk.Add(5, "a"), 2, 2);  // shares
  desk.SetMask(desk.Add(6, "b"), 7, 2);
  desk.Add(7, "a");  // no mask
  EXPECT_THAT(desk.Step(), UnorderedElementsAre(1, 2, 5, 6, 7));
  EXPECT_EQ(desk.scheduler.mask_slots_used(), 3);
  EXPECT_THAT(desk.Step({2}), IsEmpty());  // 5 still holds it
  EXPECT_THAT(desk.Step({5}), ElementsAre(3));
  desk.events.pauses = {1, 3, 6, 7};
  // However often it is passed, what its own tenant withholds is kept from nobody.
  for (SequenceId id = 100; id < 300; ++id) {
    desk.SetMask(desk.Add(id, "b"), 7, 2);
    EXPECT_THAT(desk.Step(), ElementsAre(id));
    desk.Step({id});
  }
  EXPECT_THAT(desk.Step({1}), ElementsAre(4));
}

// Many tenants with equal demand get equal service, whatever sizes and order.
TEST(FairOrder, ServiceOfBackloggedTenantsStaysWithinOneRequestEach) {
  std::mt19937 random(7);
  Desk desk(3);
  std::map<std::string, double> served;
  std::map<SequenceId, std::pair<std::string, int32_t>> requests;
  SequenceId id = 0;
  for (int n = 0; n < 900; ++n) {
    const std::string tenant(1, static_cast<char>('a' + random() % 3));
    const int32_t tokens = 1 + static_cast<int32_t>(random() % 60);
    requests[++id] = {tenant, tokens};
    desk.Add(id, tenant, tokens);
  }
  std::vector<SequenceId> running = desk.Step();
  for (int step = 0; step < 3000; ++step) {
    for (SequenceId admitted : running)
      served[requests[admitted].first] += requests[admitted].second;
    double least = 1e9;
    double most = 0;
    for (const char* tenant : {"a", "b", "c"}) {
      least = std::min(least, served[tenant]);
      most = std::max(most, served[tenant]);
    }
    ASSERT_LE(most - least, 60 * 2) << "at step " << step;
    std::vector<SequenceId> finished;
    for (const auto& [running_id, rows] : desk.rows_) {
      if (rows >= requests[running_id].second) finished.push_back(running_id);
    }
    for (SequenceId gone : finished) desk.rows_.erase(gone);
    running = desk.Step(finished);
    if (served["a"] + served["b"] + served["c"] > 20000) break;
  }
  EXPECT_GT(served["a"], 2500);
}

}  // namespace
}  // namespace monet
