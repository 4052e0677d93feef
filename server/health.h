// grpc.health.v1 on the server's own port, with a completion queue and a thread of its own: it
// never waits for inference or for gRPC's callback threads.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/server_builder.h>

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"

namespace monet::server {

// The statuses. Thread-safe. Starts with every service NOT_SERVING.
class HealthTable {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  // `services` are full names; "" (the server as a whole) is always there.
  explicit HealthTable(const std::vector<std::string>& services);

  void SetAll(bool serving);
  // SERVICE_UNKNOWN for a name that is not there.
  Status Get(const std::string& service) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Status> statuses_;
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
