// grpc.health.v1 alone on a plaintext port of its own, for probes that speak no TLS (Kubernetes').
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "server/health.h"

namespace monet::server {

// Not thread-safe, but SetServing is.
class HealthPort {
 public:
  explicit HealthPort(const std::vector<std::string>& services);
  ~HealthPort();

  // Errors: INVALID_ARGUMENT when the address cannot be had.
  absl::Status Listen(const std::string& address);
  void SetServing(bool serving) { health_.SetServing(serving); }
  void SetLiveness(std::function<bool()> alive) { health_.SetLiveness(std::move(alive)); }

  // After Listen: the address with the real port.
  const std::string& address() const { return address_; }

 private:
  HealthService health_;
  std::unique_ptr<grpc::Server> grpc_;
  std::string address_;
  bool registered_ = false;
};

}  // namespace monet::server
