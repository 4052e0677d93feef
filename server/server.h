// The running server: ports, services, loading, drain. The order in which its parts end is the
// point of this class.
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/status.h"
#include "server/admin_listener.h"
#include "server/admission.h"
#include "server/certificates.h"
#include "server/expert_service.h"
#include "server/generation_service.h"
#include "server/health.h"
#include "server/health_port.h"
#include "server/health_report.h"
#include "server/ingress.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/policy_reload.h"
#include "server/policy_service.h"
#include "server/reloads.h"
#include "server/serving_model.h"
#include "server/stalled_streams.h"
#include "server/tenant_metrics.h"
#include "server/tenant_watcher.h"

namespace monet::server {

// Not thread-safe: one thread drives Listen → Load → Drain (or the destructor at any point).
class Server {
 public:
  explicit Server(const ServerOptions& options);
  // Ends everything at once; calls inside end with UNAVAILABLE or CANCELLED.
  ~Server();

  // What the administrator's port calls for a drain, on a thread of its own. Before Listen.
  void OnDrainAsked(std::function<void()> drain) { on_drain_asked_ = std::move(drain); }
  // Takes the ports. From here on health answers NOT_SERVING and calls get UNAVAILABLE.
  // Errors: INVALID_ARGUMENT when an address cannot be had.
  absl::Status Listen();
  // Loads the model and opens the gate. Errors: of the checkpoint, the policies or the settings.
  absl::Status Load();
  // After Load. Calls it once: now, or when every mandatory policy can be had, on another thread.
  void WhenReady(std::function<void()> then);
  // NOT_SERVING, new calls UNAVAILABLE, calls inside finish until options.drain_timeout, then are
  // ended with UNAVAILABLE. True when none had to be.
  bool Drain();

  // After Listen: the addresses with the real ports.
  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  // Empty unless options.health_listen is given.
  std::string health_address() const;
  // Empty unless options.admin_listen is given.
  std::string admin_address() const;
  // After Load.
  const ServingModel& model() const { return *model_; }

 private:
  absl::Status ListenGrpc();
  absl::Status LoadCertificates();
  absl::Status ListenAdmin();
  void SetServing(bool serving);
  absl::StatusOr<ReloadOutcome> ReloadPolicies(ReloadTrigger trigger);
  absl::StatusOr<ReloadOutcome> ReloadTenants(ReloadTrigger trigger);
  ReloadStanding TenantStanding() const;
  void Shutdown();
  void TakeUnresolved(const std::vector<UnresolvedPolicy>& unresolved);

  const ServerOptions options_;
  Metrics metrics_;
  TenantMetrics tenant_metrics_;
  Reloads reloads_;
  std::unique_ptr<Certificates> certificates_;  // null: plaintext
  Admission admission_;
  HealthReport health_report_;
  std::unique_ptr<TenantRegistry> tenants_;
  TenantQuotas quotas_;
  UsageMetrics usage_metrics_;
  std::unique_ptr<UsageLog> usage_log_;
  std::unique_ptr<ServingModel> model_;
  std::unique_ptr<TenantWatcher> tenant_watcher_;
  std::mutex ready_mutex_;
  bool ready_ = false;                           // under ready_mutex_
  std::function<void()> when_ready_;             // under ready_mutex_; null once called
  std::unique_ptr<PolicyReload> policy_reload_;  // null without policies
  std::unique_ptr<Ingress> ingress_;
  std::unique_ptr<StalledStreams> stalled_streams_;
  HealthService health_;
  std::unique_ptr<HealthPort> health_port_;  // null: none
  ServiceContext context_;
  std::unique_ptr<GenerationService> generation_;
  std::unique_ptr<PolicyService> policy_;
  std::unique_ptr<ExpertService> expert_;
  std::unique_ptr<grpc::Server> grpc_;
  std::string grpc_address_;
  std::string metrics_address_;
  std::function<void()> on_drain_asked_;
  std::unique_ptr<AdminToken> admin_token_;  // null: none
  std::unique_ptr<AdminListener> admin_;     // null: none; last, so that its threads end first
};

}  // namespace monet::server
