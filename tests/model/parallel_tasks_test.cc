#include "runtime/model/parallel_tasks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <new>
#include <thread>

namespace monet {
namespace {

using Tasks = std::vector<std::function<absl::Status()>>;

TEST(ParallelTasksTest, RunsEveryTaskOnce) {
  for (int32_t threads : {-1, 1, 2, 7, 100}) {
    std::vector<std::atomic<int>> runs(20);
    Tasks tasks;
    for (auto& count : runs) {
      tasks.push_back([&count] {
        ++count;
        return absl::OkStatus();
      });
    }
    EXPECT_TRUE(RunTasks(tasks, threads).ok());
    for (const auto& count : runs) EXPECT_EQ(count, 1);
  }
  EXPECT_TRUE(RunTasks({}, 4).ok());
}

// The earlier task fails later in time.
TEST(ParallelTasksTest, ReturnsTheFirstErrorOfTheList) {
  std::atomic<bool> second_failed{false};
  const Tasks tasks = {[&second_failed] {
                         while (!second_failed) std::this_thread::yield();
                         std::this_thread::sleep_for(std::chrono::milliseconds(5));
                         return InvalidArgument("first");
                       },
                       [&second_failed] {
                         second_failed = true;
                         return InvalidArgument("second");
                       }};
  EXPECT_EQ(Message(RunTasks(tasks, 2)), "first");
}

TEST(ParallelTasksTest, OutOfMemoryIsAnError) {
  const Tasks tasks = {[]() -> absl::Status { throw std::bad_alloc(); }};
  EXPECT_EQ(RunTasks(tasks, 2).code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace monet
