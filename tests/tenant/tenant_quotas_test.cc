// Limits of tenants on a simulated clock: exhausted, refilled, given back, each tenant's own.
#include "runtime/tenant/tenant_quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/base/reasons.h"

namespace monet {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

const TenantQuotas::TimePoint kStart = TenantQuotas::TimePoint() + std::chrono::hours(1);

std::shared_ptr<const Tenant> Make(const std::string& name, TenantLimits limits) {
  auto tenant = std::make_shared<Tenant>();
  tenant->name = name;
  tenant->limits = limits;
  return tenant;
}

class Quotas : public ::testing::Test {
 protected:
  void ExpectRefused(const absl::Status& status, Reason reason, const std::string& limit,
                     milliseconds delay) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(ReasonOf(status).reason, reason);
    EXPECT_EQ(LimitOf(status), limit);
    EXPECT_THAT(Message(status), HasSubstr("(" + limit + ")"));
    EXPECT_EQ(RetryAfterOf(status), delay);
  }

  TenantQuotas quotas_;
};

TEST_F(Quotas, CallsAtATime) {
  const auto acme = Make("acme", {.concurrent = 2});
  auto first = quotas_.Enter(acme, kStart);
  auto second = quotas_.Enter(acme, kStart);
  ASSERT_TRUE(first.ok() && second.ok());
  ExpectRefused(quotas_.Enter(acme, kStart).status(), Reason::kConcurrencyLimited, "concurrent",
                milliseconds(500));
  EXPECT_TRUE(quotas_.Enter(Make("beta", {.concurrent = 2}), kStart).ok());
  first->Release(kStart);
  first->Release(kStart);  // no second place
  auto third = quotas_.Enter(acme, kStart);
  EXPECT_TRUE(third.ok());
  EXPECT_FALSE(quotas_.Enter(acme, kStart).ok());
  *second = TenantQuotas::Ticket();
  EXPECT_EQ(quotas_.Running("acme"), 1);
  third = TenantQuotas::Ticket();
  EXPECT_EQ(quotas_.Running("acme"), 0);
}

TEST_F(Quotas, RequestsAMinute) {
  const auto acme = Make("acme", {.requests_per_minute = 3});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(quotas_.Enter(acme, kStart).ok());
  ExpectRefused(quotas_.Enter(acme, kStart).status(), Reason::kRateLimited, "requests_per_minute",
                seconds(20));
  ExpectRefused(quotas_.Enter(acme, kStart + milliseconds(19999)).status(), Reason::kRateLimited,
                "requests_per_minute", milliseconds(1));
  EXPECT_TRUE(quotas_.Enter(acme, kStart + seconds(20)).ok());
  EXPECT_FALSE(quotas_.Enter(acme, kStart + seconds(20)).ok());
  EXPECT_TRUE(quotas_.Enter(Make("beta", {.requests_per_minute = 3}), kStart).ok());
  EXPECT_EQ(quotas_.Running("acme"), 0);
}

// A refused call holds no place.
TEST_F(Quotas, RefusalsTakeNothing) {
  const auto acme = Make("acme", {.requests_per_minute = 2, .concurrent = 1});
  auto first = quotas_.Enter(acme, kStart);
  ASSERT_TRUE(first.ok());
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(quotas_.Enter(acme, kStart).ok());
  first->Release(kStart);
  EXPECT_TRUE(quotas_.Enter(acme, kStart).ok());
}

TEST_F(Quotas, TokensAreChargedAtOnceAndTheRestGivenBack) {
  const auto acme = Make("acme", {.tokens_per_minute = 600});
  auto first = quotas_.Enter(acme, kStart);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(first->Charge({.prompt_tokens = 100, .max_tokens = 200, .n = 2}, kStart).ok());
  auto second = quotas_.Enter(acme, kStart);
  ASSERT_TRUE(second.ok());
  ExpectRefused(second->Charge({.prompt_tokens = 101}, kStart), Reason::kRateLimited,
                "tokens_per_minute", milliseconds(100));
  ASSERT_TRUE(second->Charge({.prompt_tokens = 100}, kStart).ok());
  first->Settle(150, kStart);
  first->Settle(0, kStart);  // once
  auto third = quotas_.Enter(acme, kStart);
  ASSERT_TRUE(third.ok());
  ExpectRefused(third->Charge({.prompt_tokens = 351}, kStart), Reason::kRateLimited,
                "tokens_per_minute", milliseconds(100));
  EXPECT_TRUE(third->Charge({.prompt_tokens = 350}, kStart).ok());
}

// A call that never ran costs nothing.
TEST_F(Quotas, WhatWasNotSettledIsGivenBack) {
  const auto acme = Make("acme", {.tokens_per_minute = 10});
  for (int i = 0; i < 5; ++i) {
    auto ticket = quotas_.Enter(acme, kStart);
    ASSERT_TRUE(ticket.ok());
    EXPECT_TRUE(ticket->Charge({.prompt_tokens = 10}, kStart).ok());
  }
}

TEST_F(Quotas, AccountsOutliveReloadsAndFollowTheNewLimits) {
  const auto before = Make("acme", {.tokens_per_minute = 100, .concurrent = 5});
  auto running = quotas_.Enter(before, kStart);
  ASSERT_TRUE(running.ok());
  ASSERT_TRUE(running->Charge({.prompt_tokens = 100}, kStart).ok());
  const auto after = Make("acme", {.tokens_per_minute = 1000, .concurrent = 1});
  EXPECT_FALSE(quotas_.Enter(after, kStart).ok());
  running->Release(kStart);
  auto next = quotas_.Enter(after, kStart);
  ASSERT_TRUE(next.ok());
  ExpectRefused(next->Charge({.prompt_tokens = 200}, kStart), Reason::kRateLimited,
                "tokens_per_minute", seconds(6));
}

TEST_F(Quotas, WithoutLimitsNothingIsRefused) {
  std::vector<TenantQuotas::Ticket> tickets;
  for (int i = 0; i < 1000; ++i) {
    auto ticket = quotas_.Enter(OpenTenant(), kStart);
    ASSERT_TRUE(ticket.ok());
    ASSERT_TRUE(ticket->Charge({.prompt_tokens = 1 << 20, .max_tokens = 1 << 20}, kStart).ok());
    tickets.push_back(*std::move(ticket));
  }
  EXPECT_EQ(quotas_.Running("anonymous"), 1000);
}

TEST(CallCost, EveryLimitNamesItsField) {
  const auto tenant = Make("acme", {.tokens_per_minute = 1000,
                                    .max_prompt_tokens = 100,
                                    .max_tokens = 200,
                                    .max_n = 3,
                                    .max_top_logprobs = 4,
                                    .max_priority = 5});
  const CallCost most{
      .prompt_tokens = 100, .max_tokens = 200, .n = 3, .top_logprobs = 4, .priority = 5};
  EXPECT_TRUE(CheckCallCost(*tenant, most).ok());
  struct Row {
    CallCost cost;
    const char* field;
    const char* limit;
  };
  const Row rows[] = {
      {{.prompt_tokens = 101}, "prompt", "max_prompt_tokens"},
      {{.max_tokens = 201}, "stopping.max_tokens", "max_tokens"},
      {{.n = 4}, "n", "max_n"},
      {{.top_logprobs = 5}, "logprob_options.top_logprobs", "max_top_logprobs"},
      {{.priority = 6}, "priority", "max_priority"},
  };
  for (const Row& row : rows) {
    const absl::Status status = CheckCallCost(*tenant, row.cost);
    EXPECT_EQ(ReasonOf(status).reason, Reason::kLimitExceeded) << row.limit;
    EXPECT_EQ(FieldOf(status), row.field);
    EXPECT_EQ(LimitOf(status), row.limit);
    EXPECT_THAT(Message(status), HasSubstr(row.limit));
  }
  EXPECT_EQ(Message(CheckCallCost(*tenant, {.n = 4})), "n is 4, limit 3 of this tenant (max_n)");
}

// More than a minute's worth can never be had: no retry is promised.
TEST(CallCost, WhatNeverFitsIsNotToBeRetried) {
  const auto tenant = Make("acme", {.tokens_per_minute = 100});
  const absl::Status generate = CheckCallCost(*tenant, {.prompt_tokens = 50, .max_tokens = 51});
  EXPECT_EQ(ReasonOf(generate).reason, Reason::kLimitExceeded);
  EXPECT_EQ(FieldOf(generate), "stopping.max_tokens");
  const absl::Status score = CheckCallCost(*tenant, {.prompt_tokens = 101});
  EXPECT_EQ(FieldOf(score), "prompt");
  EXPECT_EQ(LimitOf(score), "tokens_per_minute");
  EXPECT_TRUE(CheckCallCost(*tenant, {.prompt_tokens = 50, .max_tokens = 25, .n = 2}).ok());
}

TEST(CallCost, PriorityIsWhatATenantIsGiven) {
  EXPECT_FALSE(CheckCallCost(*Make("acme", {}), {.priority = 1}).ok());
  EXPECT_TRUE(CheckCallCost(*OpenTenant(), {.priority = 9}).ok());
}

}  // namespace
}  // namespace monet
