// Ends streams whose client takes nothing. A full outbox pauses its sequence, which keeps its
// place, its cache blocks and its mask slot; without an end to that, a few clients that never read
// would hold up everybody else for as long as their connections live.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace monet::server {

// Thread-safe.
class StalledStreams {
 public:
  using Clock = std::chrono::steady_clock;

  class Stream {
   public:
    virtual ~Stream() = default;
    // Ends the call when its client has taken nothing since `before`. Called on the watching
    // thread, also after the call is over.
    virtual void EndIfStalledSince(Clock::time_point before) = 0;
  };

  // `limit`: how long a client may take nothing. Looks four times in that time.
  explicit StalledStreams(std::chrono::milliseconds limit);
  ~StalledStreams();

  // Watches the stream until it is gone.
  void Watch(std::weak_ptr<Stream> stream);

 private:
  void Run();
  void Look();

  const std::chrono::milliseconds limit_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::weak_ptr<Stream>> streams_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace monet::server
