// A connection to one server, and calls over it that a deadline or a signal ends.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/interrupts.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "monet/v1/expert.grpc.pb.h"
#include "monet/v1/generation.grpc.pb.h"
#include "monet/v1/policy.grpc.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

// How long a server may take to accept a connection.
inline constexpr std::chrono::seconds kConnectTimeout{5};

struct ServerOptions {
  std::string address;              // HOST:PORT
  std::optional<double> timeout_s;  // seconds for the whole command; none: no limit
  std::string key;                  // sent with every call; empty: none
  bool tls = false;
  // PEM texts, with tls. Empty: the system's authorities, no certificate of the client's own.
  std::string ca_pem, cert_pem, cert_key_pem;
};

// Whether calls to `address` stay on this machine: a loopback address, localhost or a Unix socket.
bool IsLocal(std::string_view address);

// Not thread-safe.
class Connection {
 public:
  // Connects, waiting at most kConnectTimeout. `interrupts` must outlive the result. Errors:
  // UNAVAILABLE naming the address (exit code 1), INVALID_ARGUMENT for an address that cannot be.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const ServerOptions& options,
                                                          Interrupts* interrupts);

  v1::GenerationService::StubInterface& generation() { return *generation_; }
  v1::PolicyService::StubInterface& policy() { return *policy_; }
  v1::ExpertService::StubInterface& expert() { return *expert_; }
  grpc::health::v1::Health::StubInterface& health() { return *health_; }

  // Runs `call` with a fresh context that has the command's deadline. SIGINT and SIGTERM cancel it;
  // the result is then Interrupted(). Otherwise it is what `call` returned.
  absl::Status Call(const std::function<absl::Status(grpc::ClientContext*)>& call);

  // One unary call: `method` is (ClientContext*) → grpc::Status.
  absl::Status Unary(const std::function<grpc::Status(grpc::ClientContext*)>& method);

 private:
  Connection(std::shared_ptr<grpc::Channel> channel, std::string key, Interrupts* interrupts,
             std::chrono::system_clock::time_point deadline);

  std::shared_ptr<grpc::Channel> channel_;
  std::string key_;
  Interrupts* interrupts_;
  std::chrono::system_clock::time_point deadline_;
  std::unique_ptr<v1::GenerationService::StubInterface> generation_;
  std::unique_ptr<v1::PolicyService::StubInterface> policy_;
  std::unique_ptr<v1::ExpertService::StubInterface> expert_;
  std::unique_ptr<grpc::health::v1::Health::StubInterface> health_;
};

}  // namespace monet::cli
