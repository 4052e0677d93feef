// monetctl score: perplexity of a text under a mask.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cli/call_options.h"
#include "cli/color.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/prompt_arguments.h"
#include "cli/routing_text.h"
#include "cli/text_input.h"
#include "cli/token_texts.h"
#include "cli/windows.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl score --text-file notes.txt\n"
    "  monetctl score --policy no-german --json --text-file brief.txt | jq .perplexity\n\n"
    "The file is read as it is, its last line feed included. N counts the predicted tokens: all\n"
    "but <s>. mean_nll is in nats a token, perplexity its exponential. A text longer than the\n"
    "model's context is scored in windows of context - 1 tokens, each behind its own <s>; with\n"
    "--truncate it is cut instead. A conversation (--message) is scored in one piece.\n\n"
    "--return-routing prints the experts of each position as monetctl explain does, which shows\n"
    "the tokens too; with --json it adds \"routing\": a list for each window, as monetctl "
    "generate\n"
    "has it.";

struct ScoreArguments {
  explicit ScoreArguments(CLI::App* app) : server(app), mask(app), prompt(app), color(app) {
    model = AddValue(app, "--model", "NAME",
                     "Refuse to run on a model of another name. Default: whatever is served");
    return_routing =
        AddValue(app, "--return-routing", "N",
                 "Also print the N heaviest experts of each token and router, 1 to 256");
    app->add_flag("--logprobs", logprobs,
                  "Print each token's natural-log probability too: in colours of the text,\n"
                  "or a line 'LOGPROB \"TEXT\"' a token where there are no colours");
    app->add_flag("--json", json, "Print one JSON object");
    text_file = AddValue(app, "--text-file", "FILE", "UTF-8 text to score; '-' is standard input");
  }

  ServerArguments server;
  MaskArguments mask;
  PromptArguments prompt;
  ColorArgument color;
  CLI::Option *model, *return_routing, *text_file;
  bool logprobs = false;
  bool json = false;
};

struct TokenizedText {
  int32_t bos = 0;
  std::vector<int32_t> ids;  // without <s>
};

absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text, bool add_bos,
                                              Connection* connection) {
  v1::TokenizeRequest request;
  request.set_text(text);
  request.set_add_bos(add_bos);
  v1::TokenizeResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().Tokenize(context, request, &response);
  }));
  return std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
}

absl::StatusOr<TokenizedText> TokenizeText(const std::string& text, Connection* connection) {
  TokenizedText result;
  // <s> is what the server puts before an empty text.
  MONET_ASSIGN_OR_RETURN(const std::vector<int32_t> bos, Tokenize("", true, connection));
  if (bos.size() != 1) return BadAnswer("an empty text has {} tokens instead of <s>", bos.size());
  result.bos = bos[0];
  MONET_ASSIGN_OR_RETURN(result.ids, Tokenize(text, false, connection));
  if (result.ids.empty()) return BadAnswer("the text has no tokens");
  return result;
}

// Tokens that one call can score. Errors: exit code 1, or 2 when the text is beyond the limit.
absl::StatusOr<int32_t> ReadContext(size_t text_bytes, Connection* connection) {
  v1::GetModelResponse model;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().GetModel(context, v1::GetModelRequest(), &model);
  }));
  const v1::Limits& limits = model.limits();
  if (limits.max_prompt_bytes() > 0 &&
      text_bytes > static_cast<uint64_t>(limits.max_prompt_bytes())) {
    return InvalidArgument("--text-file has {} bytes, the server's limit is {}", text_bytes,
                           limits.max_prompt_bytes());
  }
  int32_t context = model.context_tokens();
  if (limits.max_context_tokens() > 0) context = std::min(context, limits.max_context_tokens());
  if (context < 2) return BadAnswer("a context of {} tokens", context);
  return context;
}

absl::StatusOr<ScoreTotal> ScoreText(const v1::ScoreRequest& request, const TokenizedText& text,
                                     int32_t context_tokens, Connection* connection,
                                     Console* console) {
  const auto windows = ScoreWindows(text.ids, context_tokens);
  ScoreTotal total;
  v1::ScoreRequest window_request = request;
  for (const std::span<const int32_t> window : windows) {
    if (windows.size() > 1) {
      console->Progress(fmt::format("window {} of {}", total.windows() + 1, windows.size()));
    }
    auto* ids = window_request.mutable_prompt()->mutable_token_ids()->mutable_ids();
    ids->Clear();
    ids->Add(text.bos);
    ids->Add(window.begin(), window.end());
    v1::ScoreResponse answer;
    MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
      return connection->generation().Score(context, window_request, &answer);
    }));
    MONET_RETURN_IF_ERROR(CheckApplied(request.mask(), answer.header().mask()));
    MONET_RETURN_IF_ERROR(total.Add(window, answer));
  }
  console->ClearProgress();
  return total;
}

// What was scored, and how.
struct Scored {
  std::vector<int32_t> ids;
  ScoreTotal total;
};

// One call that the server cuts or puts together.
absl::StatusOr<Scored> ScoreOnce(const v1::ScoreRequest& request, Connection* connection) {
  v1::ScoreResponse answer;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().Score(context, request, &answer);
  }));
  MONET_RETURN_IF_ERROR(CheckApplied(request.mask(), answer.header().mask()));
  if (answer.token_ids().empty()) return BadAnswer("it scored no tokens");
  Scored scored;
  scored.ids.assign(answer.token_ids().begin(), answer.token_ids().end());
  MONET_RETURN_IF_ERROR(scored.total.Add(scored.ids, answer));
  return scored;
}

absl::StatusOr<std::string> ReadText(const ScoreArguments& arguments) {
  MONET_ASSIGN_OR_RETURN(std::string text, ReadInput(arguments.text_file->results()[0]));
  if (text.empty()) return InvalidArgument("--text-file is empty, there is nothing to score");
  MONET_RETURN_IF_ERROR(RequireUtf8("--text-file", text));
  return text;
}

// The text, or a line a token, each with its log-probability.
absl::StatusOr<std::string> LogprobsText(const Scored& scored, bool colors,
                                         Connection* connection) {
  MONET_ASSIGN_OR_RETURN(const std::vector<TokenText> units, TokenTexts(scored.ids, connection));
  std::string output;
  size_t token = 0;
  for (const TokenText& unit : units) {
    const float* first = scored.total.logprobs().data() + token;
    if (colors) {
      output += Paint(unit.text, *std::min_element(first, first + unit.tokens));
    } else {
      output += fmt::format("{:.6f} {}\n", fmt::join(first, first + unit.tokens, " "),
                            Json(unit.text).dump());
    }
    token += unit.tokens;
  }
  // The summary begins on a line of its own.
  if (colors) output += "\n\n";
  return output;
}

// After an empty line, a heading for each position in its window; empty without routing.
std::string RoutingTexts(const ScoreTotal& total) {
  std::string text;
  const auto& windows = total.routing();
  for (size_t n = 0; n < windows.size(); ++n) {
    text += '\n';
    if (windows.size() > 1) text += fmt::format("window {}\n", n + 1);
    int32_t position = -1;
    for (const v1::TokenActivation& activation : windows[n]) {
      if (activation.position() != position) {
        position = activation.position();
        text += fmt::format("position {}\n", position);
      }
      text += RoutingText(activation);
    }
  }
  return text;
}

std::string ScoreOutput(const ScoreTotal& total, int32_t context, bool as_json,
                        const std::vector<int32_t>& listed_ids) {
  const double perplexity = std::exp(total.mean_nll());
  if (!as_json) {
    std::string text = fmt::format("tokens      {}\nmean_nll    {:.6f}\nperplexity  {:.4f}\n",
                                   total.tokens(), total.mean_nll(), perplexity);
    for (const v1::AppliedPolicy& policy : total.header().mask().policies()) {
      text += fmt::format("policy      {}@{}\n", policy.name(), policy.version());
    }
    return text + RoutingTexts(total);
  }
  Json json;
  json["tokens"] = total.tokens();
  json["mean_nll"] = total.mean_nll();
  json["perplexity"] = perplexity;
  json["policies"] = AppliedPoliciesJson(total.header().mask().policies());
  json["mask_digest"] = total.header().mask().digest();
  json["usage"] = UsageJson(total.usage());
  json["windows"] = total.windows();
  json["truncated_tokens"] = total.header().truncated_tokens();
  json["context_tokens"] = context;
  AddIdentity(total.header(), &json);
  // One id a window: none of them names the whole.
  json.erase("request_id");
  AddRemoved(total.header().mask(), &json);
  if (!listed_ids.empty()) {
    json["token_ids"] = listed_ids;
    json["logprobs"] = total.logprobs();
  }
  json["removed_weight_share"] = total.removed_weight_share();
  for (const auto& routing : total.routing()) json["routing"].push_back(RoutingJson(routing));
  return Line(json);
}

absl::Status RunScore(const ScoreArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  v1::ScoreRequest request;
  MONET_ASSIGN_OR_RETURN(*request.mutable_mask(), arguments.mask.Read());
  MONET_ASSIGN_OR_RETURN(const auto model, TextOf(arguments.model));
  if (model) request.set_model(*model);
  MONET_ASSIGN_OR_RETURN(const auto top_n, Int32Of(arguments.return_routing));
  if (top_n) request.mutable_return_routing()->set_top_n(*top_n);
  const bool messages = arguments.prompt.has_messages();
  if (messages == (arguments.text_file->count() > 0)) {
    return InvalidArgument("--text-file or --message is needed, not both");
  }
  MONET_RETURN_IF_ERROR(arguments.prompt.Read(request.mutable_prompt()));
  std::string text;
  if (!messages) {
    MONET_ASSIGN_OR_RETURN(text, ReadText(arguments));
  }

  MONET_ASSIGN_OR_RETURN(const bool colors, arguments.color.Read(*session.console));

  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  MONET_ASSIGN_OR_RETURN(const int32_t context, ReadContext(text.size(), connection.get()));
  Scored scored;
  if (messages || request.prompt().has_truncation()) {
    if (!messages) request.mutable_prompt()->set_text(text);
    MONET_ASSIGN_OR_RETURN(scored, ScoreOnce(request, connection.get()));
  } else {
    MONET_ASSIGN_OR_RETURN(const TokenizedText tokens, TokenizeText(text, connection.get()));
    MONET_ASSIGN_OR_RETURN(scored.total,
                           ScoreText(request, tokens, context, connection.get(), session.console));
    scored.ids = tokens.ids;
  }
  if (arguments.logprobs && !arguments.json) {
    MONET_ASSIGN_OR_RETURN(const std::string tokens_text,
                           LogprobsText(scored, colors, connection.get()));
    MONET_RETURN_IF_ERROR(session.console->Write(tokens_text));
  }
  if (!arguments.logprobs) scored.ids.clear();
  return session.console->Write(ScoreOutput(scored.total, context, arguments.json, scored.ids));
}

}  // namespace

Command AddScore(CLI::App* root) {
  CLI::App* app = root->add_subcommand("score", "Perplexity of a text");
  app->footer(kExample);
  auto arguments = std::make_shared<ScoreArguments>(app);
  return {app, [arguments](const Session& session) { return RunScore(*arguments, session); }};
}

}  // namespace monet::cli
