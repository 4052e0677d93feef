// grpc.health.v1 on the server's own port, with a completion queue and a thread of its own: it
// never waits for inference or for gRPC's callback threads.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"

namespace monet::server {

// A service that nobody calls: whether the process does its work, for a probe that starts it anew.
// SERVING from the start, while the model loads, while a policy is missing and while it drains;
// NOT_SERVING only while the engine stands still.
inline constexpr const char* kLivenessService = "liveness";

// The statuses. Thread-safe. Starts with every service but kLivenessService NOT_SERVING.
class HealthTable {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  // `services` are full names; "" (the server as a whole) is always there.
  explicit HealthTable(const std::vector<std::string>& services);

  // Every service but kLivenessService.
  void SetAll(bool serving);
  // Asked, under a lock, for the status of kLivenessService; nullptr: SERVING.
  void SetLiveness(std::function<bool()> alive);
  // SERVICE_UNKNOWN for a name that is not there.
  Status Get(const std::string& service) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Status> statuses_;
  std::function<bool()> alive_;
};

class HealthService {
 public:
  explicit HealthService(const std::vector<std::string>& services);
  // REQUIRES: Stop() was called if Start() was.
  ~HealthService();

  // Before the server is built.
  void Register(grpc::ServerBuilder* builder);
  // After it was built.
  void Start();
  // Tells every Watch. Thread-safe.
  void SetServing(bool serving);
  // Asked at every Check of kLivenessService until Stop; must not block. Thread-safe.
  void SetLiveness(std::function<bool()> alive) { table_.SetLiveness(std::move(alive)); }
  // After the server's Shutdown.
  void Stop();

 private:
  struct Call;
  struct Check;
  struct Watch;
  // What a completion queue entry stands for.
  struct Tag {
    Call* call = nullptr;
    enum class Event : uint8_t { kRequest, kWrite, kFinish, kDone } event = Event::kRequest;
  };

  void Run();
  void AcceptCheck();
  void AcceptWatch();
  void Update(Watch* watch);
  void Remove(Call* call);

  HealthTable table_;
  grpc::health::v1::Health::AsyncService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::thread thread_;
  std::mutex mutex_;  // held while operations are started, so that none is after queue shutdown
  bool stopping_ = false;
  bool alarm_pending_ = false;
  grpc::Alarm alarm_;
  std::list<std::unique_ptr<Call>> calls_;
  size_t watchers_ = 0;
};

}  // namespace monet::server
