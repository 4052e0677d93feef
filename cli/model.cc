// monetctl model: what the server serves.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/call_options.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/json_shapes.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl model\n"
    "  monetctl model --json | jq .limits";

struct ModelArguments {
  explicit ModelArguments(CLI::App* app) : server(app) {
    app->add_flag("--json", json, "Print one JSON object");
  }

  ServerArguments server;
  bool json = false;
};

std::string PolicyNames(const google::protobuf::RepeatedPtrField<v1::AppliedPolicy>& policies) {
  std::string names;
  for (const v1::AppliedPolicy& policy : policies) {
    names += fmt::format("{}{}@{}", names.empty() ? "" : ", ", policy.name(), policy.version());
  }
  return names.empty() ? "none" : names;
}

std::string Description(const v1::GetModelResponse& model) {
  const int64_t side = model.experts_per_side();
  const std::string decomposition = ModelJson(model)["decomposition"];
  const std::vector<std::pair<const char*, std::string>> rows = {
      {"name", model.name()},
      {"fingerprint", model.fingerprint()},
      {"system", model.system_fingerprint()},
      {"server", model.server_version()},
      {"context", fmt::format("{} tokens", model.context_tokens())},
      {"vocabulary", fmt::format("{} token ids", model.vocabulary_size())},
      {"layers", fmt::format("{} of width {}", model.layer_count(), model.hidden_size())},
      {"experts", fmt::format("{} a layer ({} x {}), {} units each, {}", side * side, side, side,
                              model.expert_units(), decomposition)},
      {"routing", fmt::format("{} routers, {} heads, about {} experts a side and head active",
                              model.routers_size(), model.routing_heads(), model.top_k())},
      {"chat", model.chat_template()},
      {"mandatory", PolicyNames(model.mandatory_policies())},
      {"allowed", PolicyNames(model.allowed_policies())},
      {"explicit", model.explicit_masks_allowed() ? "allowed" : "not allowed"},
  };
  std::string text;
  for (const auto& [name, value] : rows) text += fmt::format("{:<13}{}\n", name, value);
  return text;
}

absl::Status RunModel(const ModelArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  v1::GetModelResponse model;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().GetModel(context, v1::GetModelRequest(), &model);
  }));
  return session.console->Write(arguments.json ? Line(ModelJson(model)) : Description(model));
}

}  // namespace

Command AddModel(CLI::App* root) {
  CLI::App* app = root->add_subcommand("model", "Describe the served model and its limits");
  app->footer(kExample);
  auto arguments = std::make_shared<ModelArguments>(app);
  return {app, [arguments](const Session& session) { return RunModel(*arguments, session); }};
}

}  // namespace monet::cli
