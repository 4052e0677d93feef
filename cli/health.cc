// monetctl health: what grpc.health.v1 of a server says; for health checks of containers, and for
// scripts that wait for a server.
#include <memory>
#include <string>

#include "cli/call_options.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/json_shapes.h"
#include "cli/options.h"

namespace monet::cli {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr char kExample[] =
    "Exit codes: 0 SERVING, 1 any other status or no answer, 2 bad usage.\n\n"
    "Examples:\n"
    "  monetctl health\n"
    "  monetctl health --service liveness --timeout 1\n"
    "  until monetctl health 2>/dev/null; do sleep 1; done";

// A check that hangs is one that failed, and whoever checks wants to know soon.
constexpr double kDefaultTimeoutSeconds = 5;

struct HealthArguments {
  explicit HealthArguments(CLI::App* app)
      : server(app),
        service(AddValue(app, "--service", "NAME",
                         "Service to ask for, e.g. liveness. Default: the whole server")) {
    app->add_flag("--json", json, "Print one JSON object");
    app->get_option("--timeout")
        ->description(fmt::format("Most seconds for the whole command. Default: {:g}",
                                  kDefaultTimeoutSeconds));
  }

  ServerArguments server;
  CLI::Option* service;
  bool json = false;
};

// A number where the server knows more statuses than this program.
std::string NameOf(HealthCheckResponse::ServingStatus status) {
  const std::string name = HealthCheckResponse::ServingStatus_Name(status);
  return name.empty() ? std::to_string(status) : name;
}

absl::Status RunHealth(const HealthArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(ServerOptions server, arguments.server.Read());
  MONET_ASSIGN_OR_RETURN(const auto service, TextOf(arguments.service));
  if (!server.timeout_s.has_value()) server.timeout_s = kDefaultTimeoutSeconds;
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  HealthCheckRequest request;
  request.set_service(service.value_or(""));
  HealthCheckResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->health().Check(context, request, &response);
  }));
  const std::string status = NameOf(response.status());
  Json json;
  json["service"] = request.service();
  json["status"] = status;
  MONET_RETURN_IF_ERROR(session.console->Write(arguments.json ? Line(json) : status + "\n"));
  if (response.status() == HealthCheckResponse::SERVING) return absl::OkStatus();
  return MarkCallFailed(Error(
      absl::StatusCode::kUnavailable, "{} at {} is {}",
      request.service().empty() ? "the server" : fmt::format("service '{}'", request.service()),
      server.address, status));
}

}  // namespace

Command AddHealth(CLI::App* root) {
  CLI::App* app =
      root->add_subcommand("health", "Ask whether a server is ready; exit code 1 unless it is");
  app->footer(kExample);
  auto arguments = std::make_shared<HealthArguments>(app);
  return {app, [arguments](const Session& session) { return RunHealth(*arguments, session); }};
}

}  // namespace monet::cli
