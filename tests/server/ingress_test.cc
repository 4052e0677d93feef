#include "server/ingress.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>
#include <vector>

namespace monet::server {
namespace {

TEST(Ingress, RunsEveryAcceptedTask) {
  std::atomic<int> ran = 0;
  {
    Ingress ingress({.threads = 2, .tasks = 100, .bytes = 1000});
    for (int i = 0; i < 100; ++i) {
      while (!ingress.TrySubmit(10, [&] { ++ran; })) {
      }
    }
  }
  EXPECT_EQ(ran, 100);
}

// One thread that is held up: what waits behind it is bounded, and a refusal comes at once.
class HeldIngress : public ::testing::Test {
 protected:
  HeldIngress() {
    EXPECT_TRUE(ingress_.TrySubmit(40, [this] {
      started_.set_value();
      release_.get_future().wait();
    }));
    started_.get_future().wait();
  }
  ~HeldIngress() override { release_.set_value(); }

  std::promise<void> started_;
  std::promise<void> release_;
  Ingress ingress_{{.threads = 1, .tasks = 2, .bytes = 100}};
};

TEST_F(HeldIngress, RefusesWhenFullOfTasks) {
  EXPECT_TRUE(ingress_.TrySubmit(1, [] {}));
  EXPECT_TRUE(ingress_.TrySubmit(1, [] {}));
  EXPECT_FALSE(ingress_.TrySubmit(1, [] {}));
}

TEST_F(HeldIngress, CountsTheBytesOfRunningTasks) {
  EXPECT_FALSE(ingress_.TrySubmit(61, [] {}));
  EXPECT_TRUE(ingress_.TrySubmit(60, [] {}));
  EXPECT_FALSE(ingress_.TrySubmit(1, [] {}));
}

// Alone an owner gets half of the places, and whoever comes later finds one.
TEST(Ingress, AFloodOfOneOwnerLeavesRoomForOthers) {
  std::promise<void> started;
  std::promise<void> release;
  std::vector<std::string> order;
  {
    Ingress ingress({.threads = 1, .tasks = 8, .bytes = 800, .share = true});
    ASSERT_TRUE(ingress.TrySubmit(0, [&] {
      started.set_value();
      release.get_future().wait();
    }));
    started.get_future().wait();
    const auto submit = [&](const std::string& owner, size_t bytes) {
      return ingress.TrySubmit(
          bytes, [&order, owner] { order.push_back(owner); }, owner);
    };
    int taken = 0;
    while (submit("flood", 1)) ++taken;
    EXPECT_EQ(taken, 4);
    EXPECT_TRUE(submit("quiet", 1));
    EXPECT_TRUE(submit("other", 300));
    EXPECT_FALSE(submit("other", 300));  // its bytes would be more than are free
    EXPECT_TRUE(submit("quiet", 1));
    release.set_value();
  }
  // In turns, not in the order of arrival.
  EXPECT_EQ(order, (std::vector<std::string>{"flood", "quiet", "other", "flood", "quiet", "flood",
                                             "flood"}));
}

TEST(Ingress, GivesBytesBack) {
  Ingress ingress({.threads = 1, .tasks = 2, .bytes = 100});
  for (int i = 0; i < 5; ++i) {
    std::promise<void> done;
    while (!ingress.TrySubmit(100, [&] { done.set_value(); })) {
    }
    done.get_future().wait();
  }
  EXPECT_FALSE(ingress.TrySubmit(101, [] {}));
}

}  // namespace
}  // namespace monet::server
