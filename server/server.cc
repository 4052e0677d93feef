#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "runtime/limits.h"

namespace monet::server {
namespace {

constexpr int32_t kIngressThreads = 2;
// How often the files of the tenants are looked at.
constexpr std::chrono::seconds kTenantPoll{2};
// An engine whose thread makes no turn for this long, idle or not, stands still: liveness says so.
constexpr std::chrono::seconds kEngineStall{60};
// Time for the last messages of ended calls to leave.
constexpr std::chrono::seconds kFlushTime{2};

std::vector<std::string> ServiceNames() {
  return {v1::GenerationService::service_full_name(), v1::PolicyService::service_full_name(),
          v1::ExpertService::service_full_name()};
}

void SetLimits(grpc::ServerBuilder* builder) {
  // A second server on the same port is an error, not a silent share of the traffic.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, limits::kMaxMetadataBytes);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits::kMaxStreamsPerConnection);
  // Clients may ping every 10 seconds, also while a call is quiet or none is open.
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 9000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 5);
  // The server pings idle connections, so that a dead peer does not hold its calls forever.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  // Reflection is gRPC's own service and blocks a thread for every open call.
  grpc::ResourceQuota quota("monet-server");
  quota.SetMaxThreads(limits::kMaxBlockingThreads);
  builder->SetResourceQuota(quota);
  builder->SetMaxReceiveMessageSize(static_cast<int>(limits::kMaxRequestBytes));
  builder->SetMaxSendMessageSize(static_cast<int>(limits::kMaxResponseBytes));
}

std::string TenantSummary(const TenantSet& set) {
  return fmt::format("{} tenants, {} keys", set.tenants().size(), set.keys().size());
}

TlsPaths TlsPathsOf(const ServerOptions& options) {
  return {options.tls_cert, options.tls_key, options.tls_client_ca};
}

Certificates::ClientAuth ClientAuthOf(const ServerOptions& options) {
  return options.tls_client_auth == "optional" ? Certificates::ClientAuth::kOptional
                                               : Certificates::ClientAuth::kRequired;
}

}  // namespace

Server::Server(const ServerOptions& options)
    : options_(options),
      metrics_(ModelName(options)),
      tenant_metrics_(metrics_.registry(), metrics_.labels()),
      health_report_(&admission_, &reloads_),
      usage_metrics_(metrics_.registry(), metrics_.labels()),
      health_(ServiceNames()) {}

Server::~Server() { Shutdown(); }

absl::Status Server::Listen() {
  MONET_ASSIGN_OR_RETURN(tenants_, LoadTenants(options_));
  if (!options_.usage_log.empty()) {
    MONET_ASSIGN_OR_RETURN(usage_log_, UsageLog::Open(options_.usage_log, ModelName(options_)));
  }
  MONET_RETURN_IF_ERROR(metrics_.Listen(options_.metrics_listen));
  metrics_address_ = WithPort(options_.metrics_listen, metrics_.port());
  MONET_RETURN_IF_ERROR(LoadCertificates());
  if (!options_.health_listen.empty()) {
    health_port_ = std::make_unique<HealthPort>(ServiceNames());
    MONET_RETURN_IF_ERROR(health_port_->Listen(options_.health_listen));
  }
  MONET_RETURN_IF_ERROR(ListenAdmin());
  return ListenGrpc();
}

absl::Status Server::ListenAdmin() {
  if (options_.admin_listen.empty()) return absl::OkStatus();
  if (!options_.admin_token_file.empty()) {
    MONET_ASSIGN_OR_RETURN(admin_token_, AdminToken::Load(options_.admin_token_file));
    reloads_.Register("admin token", "",
                      [this](ReloadTrigger trigger) { return admin_token_->Reload(trigger); });
  }
  AdminActions actions;
  actions.health = [this] { return health_report_.Describe(); };
  actions.reloads = &reloads_;
  actions.drain = on_drain_asked_;
  admin_ = std::make_unique<AdminListener>(std::move(actions), admin_token_.get());
  return admin_->Listen(options_.admin_listen);
}

absl::Status Server::LoadCertificates() {
  if (options_.tls_cert.empty()) return absl::OkStatus();
  const auto observer = [this](const TlsFiles& files) {
    metrics_.SetCertificateExpiry("server", files.chain.not_after);
    if (!files.client_ca.empty()) {
      metrics_.SetCertificateExpiry("client_ca", files.client_cas.not_after);
    }
  };
  MONET_ASSIGN_OR_RETURN(
      certificates_, Certificates::Load(TlsPathsOf(options_), ClientAuthOf(options_), observer));
  reloads_.Register("certificates", certificates_->Summary(), [this](ReloadTrigger trigger) {
    auto outcome = certificates_->Reload(trigger);
    if (!outcome.ok()) metrics_.CountCertificateReloadFailure();
    return outcome;
  });
  return absl::OkStatus();
}

absl::Status Server::ListenGrpc() {
  ingress_ =
      std::make_unique<Ingress>(Ingress::Limits{.threads = kIngressThreads,
                                                .tasks = static_cast<size_t>(options_.max_queue),
                                                .bytes = limits::kMaxIngressBytes,
                                                .share = !options_.tenants.empty()});
  stalled_streams_ = std::make_unique<StalledStreams>(options_.stall_timeout);
  context_ = {&admission_,
              ingress_.get(),
              &metrics_,
              stalled_streams_.get(),
              {tenants_.get(), &quotas_, {&usage_metrics_, usage_log_.get()}}};
  generation_ = std::make_unique<GenerationService>(context_);
  policy_ = std::make_unique<PolicyService>(context_);
  expert_ = std::make_unique<ExpertService>(context_);

  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  SetLimits(&builder);
  int port = 0;
  builder.AddListeningPort(
      options_.listen,
      certificates_ ? certificates_->credentials() : grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(generation_.get());
  builder.RegisterService(policy_.get());
  builder.RegisterService(expert_.get());
  health_.Register(&builder);
  grpc_ = builder.BuildAndStart();
  MONET_ASSIGN_OR_RETURN(grpc_address_,
                         BoundAddress("--listen", options_.listen, grpc_ != nullptr, port));
  health_.Start();
  return absl::OkStatus();
}

absl::Status Server::Load() {
  MONET_ASSIGN_OR_RETURN(
      model_, LoadServingModel(options_, [this](const StepReport& r) { metrics_.ObserveStep(r); }));
  metrics_.SetPolicies(*model_->policies->Current());
  metrics_.SetEngine([engine = model_->engine.get()] { return engine->Stats(); },
                     model_->step_limits.block_size);
  const auto alive = [engine = model_->engine.get()] {
    return Clock::now() - engine->Stats().last_step < kEngineStall;
  };
  health_.SetLiveness(alive);
  if (health_port_ != nullptr) health_port_->SetLiveness(alive);
  admission_.Open(model_.get());
  health_report_.SetModel(model_.get());
  tenant_watcher_ = std::make_unique<TenantWatcher>(
      tenants_.get(), model_->policies.get(), &tenant_metrics_,
      [this](const auto& unresolved) { TakeUnresolved(unresolved); });
  tenant_watcher_->Start(kTenantPoll);
  if (!options_.policies.empty()) {
    policy_reload_ =
        std::make_unique<PolicyReload>(options_.policies, model_->policies.get(), &metrics_);
    reloads_.Register("policies", PolicySummary(*model_->policies->Current()),
                      [this](ReloadTrigger trigger) { return ReloadPolicies(trigger); });
  }
  if (!options_.tenants.empty()) {
    reloads_.Register(
        "tenants", TenantSummary(*tenants_->Current()),
        [this](ReloadTrigger trigger) { return ReloadTenants(trigger); },
        [this] { return TenantStanding(); });
  }
  reloads_.Watch(options_.reload_interval);
  return absl::OkStatus();
}

absl::StatusOr<ReloadOutcome> Server::ReloadPolicies(ReloadTrigger trigger) {
  auto outcome = policy_reload_->Run(trigger);
  if (outcome.ok() && outcome->changed) tenant_watcher_->PoliciesChanged();
  return outcome;
}

absl::StatusOr<ReloadOutcome> Server::ReloadTenants(ReloadTrigger trigger) {
  // The watcher looks by itself, and more often.
  const bool read = trigger == ReloadTrigger::kRequest && tenant_watcher_->ReloadIfChanged();
  MONET_RETURN_IF_ERROR(tenant_watcher_->last());
  return ReloadOutcome{read, TenantSummary(*tenants_->Current())};
}

ReloadStanding Server::TenantStanding() const {
  return {TenantSummary(*tenants_->Current()), Message(tenant_watcher_->last())};
}

void Server::TakeUnresolved(const std::vector<UnresolvedPolicy>& unresolved) {
  const bool unready = !unresolved.empty() && options_.on_unresolved_mandatory == "unready";
  if (!unresolved.empty()) {
    spdlog::error("{}: {}", unready ? "not ready" : "refusing calls", Describe(unresolved));
  }
  health_report_.SetUnresolved(unresolved);
  SetServing(!unready);
  std::function<void()> then;
  {
    const std::lock_guard lock(ready_mutex_);
    ready_ = !unready;
    if (ready_) then.swap(when_ready_);
  }
  if (then) then();
}

void Server::WhenReady(std::function<void()> then) {
  {
    const std::lock_guard lock(ready_mutex_);
    if (!ready_) {
      when_ready_ = std::move(then);
      return;
    }
  }
  then();
}

std::string Server::admin_address() const { return admin_ == nullptr ? "" : admin_->address(); }

std::string Server::health_address() const {
  return health_port_ == nullptr ? "" : health_port_->address();
}

void Server::SetServing(bool serving) {
  health_.SetServing(serving);
  if (health_port_ != nullptr) health_port_->SetServing(serving);
  health_report_.SetServing(serving);
}

bool Server::Drain() {
  const Clock::time_point deadline = Clock::now() + options_.drain_timeout;
  if (tenant_watcher_ != nullptr) tenant_watcher_->Stop();
  SetServing(false);
  admission_.StartDrain();
  // The gate is shut, so whoever is inside finishes by itself; the engine's own drain would refuse
  // those that are still on their way to it.
  const bool clean = admission_.WaitEmpty(deadline);
  if (model_ != nullptr) model_->engine->Drain(Clock::now());
  admission_.WaitEmpty(Clock::now() + kFlushTime);
  Shutdown();
  return clean;
}

void Server::Shutdown() {
  if (grpc_ == nullptr) {
    // BuildAndStart failed: the queue exists and must be emptied before it goes.
    if (ingress_ != nullptr && generation_ != nullptr) health_.Stop();
    generation_.reset();
    return;
  }
  reloads_.Stop();
  if (tenant_watcher_ != nullptr) tenant_watcher_->Stop();
  admission_.StartDrain();
  SetServing(false);
  // Cancels what is left; the engine then ends those calls within a step.
  grpc_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  admission_.WaitEmpty(Clock::time_point::max());
  health_.Stop();
  health_port_.reset();
  ingress_.reset();
  stalled_streams_.reset();
  metrics_.SetEngine(nullptr, 0);
  grpc_.reset();
  health_report_.SetModel(nullptr);
  tenant_watcher_.reset();
  usage_log_.reset();  // writes what is queued
  model_.reset();
}

}  // namespace monet::server
