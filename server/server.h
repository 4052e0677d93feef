// The running server: ports, services, loading, drain. The order in which its parts end is the
// point of this class.
#pragma once

#include <grpcpp/server.h>

#include <memory>
#include <string>

#include "runtime/base/status.h"
#include "server/admission.h"
#include "server/generation_service.h"
#include "server/health.h"
#include "server/ingress.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/policy_service.h"
#include "server/serving_model.h"
#include "server/stalled_streams.h"

namespace monet::server {

// Not thread-safe: one thread drives Listen → Load → Drain (or the destructor at any point).
class Server {
 public:
  explicit Server(const ServerOptions& options);
  // Ends everything at once; calls inside end with UNAVAILABLE or CANCELLED.
  ~Server();

  // Takes both ports. From here on health answers NOT_SERVING and calls get UNAVAILABLE.
  // Errors: INVALID_ARGUMENT when an address cannot be had.
  absl::Status Listen();
  // Loads the model and opens the gate. Errors: of the checkpoint, the policies or the settings.
  absl::Status Load();
  // NOT_SERVING, new calls UNAVAILABLE, calls inside finish until options.drain_timeout, then are
  // ended with UNAVAILABLE. True when none had to be.
  bool Drain();

  // After Listen: the addresses with the real ports.
  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  // After Load.
  const ServingModel& model() const { return *model_; }

 private:
  absl::Status ListenGrpc();
  void Shutdown();

  const ServerOptions options_;
  Metrics metrics_;
  Admission admission_;
  std::unique_ptr<ServingModel> model_;
  std::unique_ptr<Ingress> ingress_;
  std::unique_ptr<StalledStreams> stalled_streams_;
  HealthService health_;
  ServiceContext context_;
  std::unique_ptr<GenerationService> generation_;
  std::unique_ptr<PolicyService> policy_;
  std::unique_ptr<grpc::Server> grpc_;
  std::string grpc_address_;
  std::string metrics_address_;
};

}  // namespace monet::server
