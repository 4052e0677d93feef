#include "server/health_port.h"

#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include <chrono>

#include "runtime/limits.h"
#include "server/options.h"

namespace monet::server {
namespace {

// The reflection library adds itself to every server of the process.
class WithoutPlugins final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->clear();
  }
};

}  // namespace

HealthPort::HealthPort(const std::vector<std::string>& services) : health_(services) {}

HealthPort::~HealthPort() {
  if (grpc_ != nullptr) grpc_->Shutdown(std::chrono::system_clock::now());
  if (registered_) health_.Stop();
}

absl::Status HealthPort::Listen(const std::string& address) {
  grpc::ServerBuilder builder;
  builder.SetOption(std::make_unique<WithoutPlugins>());
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, limits::kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits::kMaxStreamsPerConnection);
  builder.SetMaxReceiveMessageSize(limits::kMaxHealthRequestBytes);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  health_.Register(&builder);
  registered_ = true;
  grpc_ = builder.BuildAndStart();
  MONET_ASSIGN_OR_RETURN(address_,
                         BoundAddress("--health-listen", address, grpc_ != nullptr, port));
  health_.Start();
  return absl::OkStatus();
}

}  // namespace monet::server
