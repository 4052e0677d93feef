#include "server/stalled_streams.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>

namespace monet::server {
namespace {

using std::chrono::milliseconds;

class FakeStream : public StalledStreams::Stream {
 public:
  explicit FakeStream(StalledStreams::Clock::time_point since) : since_(since) {}
  void EndIfStalledSince(StalledStreams::Clock::time_point before) override {
    ++looks;
    if (since_ <= before && !ended_.exchange(true)) ended.set_value();
  }

  std::atomic<int> looks = 0;
  std::promise<void> ended;

 private:
  const StalledStreams::Clock::time_point since_;
  std::atomic<bool> ended_ = false;
};

TEST(StalledStreams, EndsWhatIsStalledForTheLimitAndNothingElse) {
  const auto now = StalledStreams::Clock::now();
  const auto stalled = std::make_shared<FakeStream>(now);
  const auto healthy = std::make_shared<FakeStream>(now + std::chrono::hours(1));
  StalledStreams watch(milliseconds(40));
  watch.Watch(stalled);
  watch.Watch(healthy);
  ASSERT_EQ(stalled->ended.get_future().wait_for(std::chrono::seconds(10)),
            std::future_status::ready);
  EXPECT_GE(StalledStreams::Clock::now() - now, milliseconds(40));
  EXPECT_EQ(healthy->ended.get_future().wait_for(milliseconds(0)), std::future_status::timeout);
}

TEST(StalledStreams, KeepsNoStreamAlive) {
  StalledStreams watch(milliseconds(4));
  auto stream = std::make_shared<FakeStream>(StalledStreams::Clock::time_point::max());
  const std::weak_ptr<FakeStream> seen = stream;
  watch.Watch(stream);
  while (stream->looks == 0) std::this_thread::yield();
  stream.reset();
  const auto limit = StalledStreams::Clock::now() + std::chrono::seconds(10);
  while (!seen.expired() && StalledStreams::Clock::now() < limit) std::this_thread::yield();
  EXPECT_TRUE(seen.expired());
}

// With an hour to wait, an end that waited for the next look would be seen.
TEST(StalledStreams, EndsAtOnce) { StalledStreams watch(std::chrono::hours(1)); }

}  // namespace
}  // namespace monet::server
