#include "cli/connection.h"

#include <arpa/inet.h>

#include <algorithm>
#include <string_view>

#include "cli/exit_status.h"

namespace monet::cli {
namespace {

using Clock = std::chrono::system_clock;

// Largest answer: the ids of the longest text that a server may tokenize.
constexpr int kMaxAnswerBytes = 64 << 20;

std::shared_ptr<grpc::ChannelCredentials> CredentialsOf(const ServerOptions& options) {
  if (!options.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = options.ca_pem;
  ssl.pem_cert_chain = options.cert_pem;
  ssl.pem_private_key = options.cert_key_pem;
  return grpc::SslCredentials(ssl);
}

Clock::time_point DeadlineIn(double seconds) {
  // Longer than a century means no limit, and would not fit the clock.
  constexpr double kCentury = 3.2e9;
  if (seconds >= kCentury) return Clock::time_point::max();
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// Waits until the channel is connected, or has failed once, or `deadline`. False: still connecting.
bool AwaitConnection(grpc::Channel* channel, const Interrupts& interrupts,
                     Clock::time_point deadline) {
  // Signals are looked for between short waits.
  constexpr std::chrono::milliseconds kPoll{100};
  while (Clock::now() < deadline && interrupts.signal() == 0) {
    const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY || state == GRPC_CHANNEL_TRANSIENT_FAILURE ||
        state == GRPC_CHANNEL_SHUTDOWN) {
      return true;
    }
    channel->WaitForStateChange(state, std::min(deadline, Clock::now() + kPoll));
  }
  return false;
}

}  // namespace

bool IsLocal(std::string_view address) {
  if (address.starts_with("unix:")) return true;
  const size_t colon = address.rfind(':');
  // Without a port where the last colon is one of an IPv6 address.
  const bool has_port = colon != std::string_view::npos && !address.ends_with(']');
  const std::string host(has_port ? address.substr(0, colon) : address);
  if (host == "localhost" || host == "[::1]") return true;
  // A whole IPv4 address: 127.example.com is somebody else's name.
  in_addr ipv4{};
  return inet_pton(AF_INET, host.c_str(), &ipv4) == 1 && (ntohl(ipv4.s_addr) >> 24) == 127;
}

Connection::Connection(std::shared_ptr<grpc::Channel> channel, std::string key,
                       Interrupts* interrupts, Clock::time_point deadline)
    : channel_(std::move(channel)),
      key_(std::move(key)),
      interrupts_(interrupts),
      deadline_(deadline),
      generation_(v1::GenerationService::NewStub(channel_)),
      policy_(v1::PolicyService::NewStub(channel_)),
      expert_(v1::ExpertService::NewStub(channel_)),
      health_(grpc::health::v1::Health::NewStub(channel_)) {}

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const ServerOptions& options,
                                                             Interrupts* interrupts) {
  const std::string& address = options.address;
  if (address.empty() || address.starts_with("http:") || address.starts_with("https:")) {
    return InvalidArgument("--server is '{}', must be HOST:PORT", address);
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  // A proxy named in the environment cannot know this machine's own addresses.
  if (IsLocal(address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  std::unique_ptr<Connection> connection(new Connection(
      grpc::CreateCustomChannel(address, CredentialsOf(options), arguments), options.key,
      interrupts,
      options.timeout_s.has_value() ? DeadlineIn(*options.timeout_s) : Clock::time_point::max()));
  const Clock::time_point connect_by =
      std::min(connection->deadline_, Clock::now() + kConnectTimeout);
  Interrupts::Scope scope(interrupts, [] {});
  const bool answered = AwaitConnection(connection->channel_.get(), *interrupts, connect_by);
  if (interrupts->signal() != 0) return Interrupted(interrupts->signal());
  if (!answered) {
    return MarkCallFailed(Error(
        absl::StatusCode::kUnavailable, "no monet-server answers at {} within {:g} s", address,
        std::min<double>(options.timeout_s.value_or(kConnectTimeout.count()),
                         kConnectTimeout.count())));
  }
  if (connection->channel_->GetState(false) != GRPC_CHANNEL_READY) {
    return MarkCallFailed(Error(
        absl::StatusCode::kUnavailable, "cannot connect to {}; is monet-server running there{}?",
        address, options.tls ? ", with TLS and a certificate that is trusted for this name" : ""));
  }
  return connection;
}

absl::Status Connection::Call(const std::function<absl::Status(grpc::ClientContext*)>& call) {
  grpc::ClientContext context;
  context.set_wait_for_ready(false);
  context.set_deadline(deadline_);
  if (!key_.empty()) context.AddMetadata("authorization", "Bearer " + key_);
  Interrupts::Scope scope(interrupts_, [&context] { context.TryCancel(); });
  absl::Status status = call(&context);
  if (!status.ok() && interrupts_->signal() != 0) return Interrupted(interrupts_->signal());
  return status;
}

absl::Status Connection::Unary(const std::function<grpc::Status(grpc::ClientContext*)>& method) {
  return Call([&](grpc::ClientContext* context) { return FromCall(method(context)); });
}

}  // namespace monet::cli
