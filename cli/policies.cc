// monetctl policies: what the server can apply.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/call_options.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/json_shapes.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl policies\n"
    "  monetctl policies --json | jq -r '.policies[].name'\n\n"
    "Name a policy in a call with --policy NAME, NAME@VERSION or NAME@sha256:DIGEST.";

struct PoliciesArguments {
  explicit PoliciesArguments(CLI::App* app) : server(app) {
    app->add_flag("--json", json, "Print one JSON object");
  }

  ServerArguments server;
  bool json = false;
};

absl::StatusOr<std::vector<v1::Policy>> ListAll(Connection* connection) {
  std::vector<v1::Policy> policies;
  v1::ListPoliciesRequest request;
  while (true) {
    v1::ListPoliciesResponse response;
    MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
      return connection->policy().ListPolicies(context, request, &response);
    }));
    policies.insert(policies.end(), response.policies().begin(), response.policies().end());
    if (response.next_page_token().empty()) return policies;
    if (response.next_page_token() == request.page_token()) {
      return BadAnswer("the list of policies has no end");
    }
    request.set_page_token(response.next_page_token());
  }
}

std::string Table(const std::vector<v1::Policy>& policies) {
  size_t width = std::string_view("NAME").size();
  for (const v1::Policy& policy : policies) width = std::max(width, policy.name().size());
  // Enough of a digest to tell policies apart by eye.
  constexpr size_t kDigestWidth = std::string_view("sha256:").size() + 12;
  std::string table = fmt::format("{:<{}}  {:>7}  {:>16}  {:<{}}  {}\n", "NAME", width, "VERSION",
                                  "REMOVED", "DIGEST", kDigestWidth, "DESCRIPTION");
  for (const v1::Policy& policy : policies) {
    const double share = policy.experts_total() == 0
                             ? 0.0
                             : 100.0 * static_cast<double>(policy.experts_removed()) /
                                   static_cast<double>(policy.experts_total());
    table += fmt::format("{:<{}}  {:>7}  {:>16}  {}  {}\n", policy.name(), width, policy.version(),
                         fmt::format("{} ({:.2f}%)", policy.experts_removed(), share),
                         policy.digest().substr(0, kDigestWidth), policy.description());
  }
  return table;
}

absl::Status RunPolicies(const PoliciesArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  MONET_ASSIGN_OR_RETURN(const std::vector<v1::Policy> policies, ListAll(connection.get()));
  if (!arguments.json) return session.console->Write(Table(policies));
  Json json;
  json["policies"] = Json::array();
  for (const v1::Policy& policy : policies) json["policies"].push_back(PolicyJson(policy));
  return session.console->Write(Line(json));
}

}  // namespace

Command AddPolicies(CLI::App* root) {
  CLI::App* app = root->add_subcommand("policies", "List the policies that calls may name");
  app->footer(kExample);
  auto arguments = std::make_shared<PoliciesArguments>(app);
  return {app, [arguments](const Session& session) { return RunPolicies(*arguments, session); }};
}

}  // namespace monet::cli
