#include "server/admission.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>

namespace monet::server {
namespace {

constexpr std::chrono::milliseconds kShort{20};

TEST(Admission, RefusesWhileLoadingAndDraining) {
  Admission admission;
  EXPECT_EQ(Message(admission.Enter().status()), "the model is loading");
  ServingModel model;
  admission.Open(&model);
  const auto pass = admission.Enter();
  ASSERT_TRUE(pass.ok());
  EXPECT_EQ(pass->model(), &model);
  admission.StartDrain();
  EXPECT_EQ(admission.Enter().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Message(admission.Enter().status()), "the server is draining");
  admission.Open(&model);  // a drain is for good
  EXPECT_FALSE(admission.Enter().ok());
}

TEST(Admission, WaitsForThoseInside) {
  Admission admission;
  ServingModel model;
  admission.Open(&model);
  EXPECT_TRUE(admission.WaitEmpty(Clock::now()));
  auto first = admission.Enter();
  auto second = admission.Enter();
  Admission::Pass moved = *std::move(first);
  EXPECT_FALSE(admission.WaitEmpty(Clock::now() + kShort));
  moved.Leave();
  moved.Leave();  // counts once
  EXPECT_FALSE(admission.WaitEmpty(Clock::now() + kShort));
  std::thread leaver([&] {
    std::this_thread::sleep_for(kShort);
    second->Leave();
  });
  EXPECT_TRUE(admission.WaitEmpty(Clock::time_point::max()));
  leaver.join();
}

}  // namespace
}  // namespace monet::server
