// monetctl tokenize: the token ids of a text.
#include <memory>
#include <string>

#include "cli/call_options.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Example:\n"
    "  monetctl tokenize --no-bos 'Hello world'";

struct TokenizeArguments {
  explicit TokenizeArguments(CLI::App* app) : server(app) {
    app->add_flag("--no-bos", no_bos, "Leave out the leading <s>");
    app->add_flag("--json", json, "Print one JSON object, {\"token_ids\": [...]}");
    text = AddValue(app, "TEXT", "", "Text to tokenize; '-' reads standard input; may be ''")
               ->required();
  }

  ServerArguments server;
  CLI::Option* text;
  bool no_bos = false;
  bool json = false;
};

absl::Status RunTokenize(const TokenizeArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  std::string text = arguments.text->results()[0];
  if (text == "-") {
    MONET_ASSIGN_OR_RETURN(text, ReadInput(text));
  }
  MONET_RETURN_IF_ERROR(RequireUtf8("TEXT", text));
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_add_bos(!arguments.no_bos);
  v1::TokenizeResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().Tokenize(context, request, &response);
  }));
  if (arguments.json) {
    Json json;
    json["token_ids"] = response.token_ids();
    return session.console->Write(Line(json));
  }
  return session.console->Write(fmt::format("{}\n", fmt::join(response.token_ids(), " ")));
}

}  // namespace

Command AddTokenize(CLI::App* root) {
  CLI::App* app = root->add_subcommand("tokenize", "Token ids of a text");
  app->footer(kExample);
  auto arguments = std::make_shared<TokenizeArguments>(app);
  return {app, [arguments](const Session& session) { return RunTokenize(*arguments, session); }};
}

}  // namespace monet::cli
