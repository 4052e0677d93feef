#include "server/ingress.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

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
