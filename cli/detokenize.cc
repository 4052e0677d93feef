// monetctl detokenize: the text of token ids.
#include <charconv>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "cli/call_options.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl detokenize 1 15043 3186\n"
    "  monetctl tokenize 'Hello world' | monetctl detokenize -";

struct DetokenizeArguments {
  explicit DetokenizeArguments(CLI::App* app) : server(app) {
    app->add_flag("--json", json, "Print one JSON object, {\"text\": \"...\"}");
    ids = AddRepeated(app, "ID", "",
                      "Token ids, white space between them; '-' reads them from standard input")
              ->required()
              ->expected(-1);
  }

  ServerArguments server;
  CLI::Option* ids;
  bool json = false;
};

absl::Status AddIds(const std::string& words, v1::DetokenizeRequest* request) {
  std::istringstream stream(words);
  for (std::string word; stream >> word;) {
    int32_t id = 0;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, id);
    if (error != std::errc() || stop != end) {
      return InvalidArgument("ID is '{}', must be a token id", word);
    }
    request->add_token_ids(id);
  }
  return absl::OkStatus();
}

absl::Status RunDetokenize(const DetokenizeArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  v1::DetokenizeRequest request;
  for (std::string words : arguments.ids->results()) {
    if (words == "-") {
      MONET_ASSIGN_OR_RETURN(words, ReadInput(words));
    }
    MONET_RETURN_IF_ERROR(RequireUtf8("ID", words));
    MONET_RETURN_IF_ERROR(AddIds(words, &request));
  }
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  v1::DetokenizeResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().Detokenize(context, request, &response);
  }));
  if (!arguments.json) return session.console->Write(response.text() + "\n");
  Json json;
  json["text"] = response.text();
  return session.console->Write(Line(json));
}

}  // namespace

Command AddDetokenize(CLI::App* root) {
  CLI::App* app = root->add_subcommand("detokenize", "Text of token ids");
  app->footer(kExample);
  auto arguments = std::make_shared<DetokenizeArguments>(app);
  return {app, [arguments](const Session& session) { return RunDetokenize(*arguments, session); }};
}

}  // namespace monet::cli
