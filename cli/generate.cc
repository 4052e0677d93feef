// monetctl generate: one completion, whole or as a stream.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/call_options.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl generate --max-tokens 40 --temperature 0 'def main():'\n"
    "  monetctl generate --policy no-python --seed 7 --stream 'def main():'\n"
    "  git diff | monetctl generate --json --server 10.0.0.5:50051 -\n\n"
    "Without --json the completion alone is printed, without the prompt. With --json one object:\n"
    "text, policies, mask_digest, usage, finish_reason, token_ids, seed and what identifies call\n"
    "and model. With --stream --json a line a message (\"event\": header, delta or finish), the\n"
    "last line being that object.";

struct GenerateArguments {
  explicit GenerateArguments(CLI::App* app);
  absl::StatusOr<v1::GenerateRequest> Read() const;

  ServerArguments server;
  MaskArguments mask;
  CLI::Option *max_tokens, *temperature, *top_k, *top_p, *seed, *stop, *stop_token_id;
  CLI::Option *model, *request_id, *prompt;
  bool stream = false;
  bool json = false;
  bool logprobs = false;
};

GenerateArguments::GenerateArguments(CLI::App* app) : server(app), mask(app) {
  max_tokens = AddValue(app, "--max-tokens", "N",
                        "Most tokens to generate, from 1.\n"
                        "Default: the smaller of 256 and what the context leaves");
  temperature =
      AddValue(app, "--temperature", "T",
               "Divides the logits, 0 to 100; 0 takes the most probable token.\nDefault: 1");
  top_k = AddValue(app, "--top-k", "K", "Keep the K most probable tokens; 0 keeps all. Default: 0");
  top_p = AddValue(app, "--top-p", "P",
                   "Keep the fewest tokens whose probability reaches P, above 0 to 1.\nDefault: 1");
  seed = AddValue(app, "--seed", "S",
                  "Seed of the random numbers, 0 to 18446744073709551615.\n"
                  "Default: drawn by the server and returned");
  stop =
      AddRepeated(app, "--stop", "TEXT",
                  "End before this text; may be repeated, at most 16 of 256 bytes.\nDefault: none");
  stop_token_id = AddRepeated(app, "--stop-token-id", "ID",
                              "End at this token id; may be repeated, at most 64. Default: none\n"
                              "(the end-of-sequence token always ends)");
  model = AddValue(app, "--model", "NAME",
                   "Refuse to run on a model of another name. Default: whatever is served");
  request_id = AddValue(app, "--request-id", "ID",
                        "Your own id for the server's log, at most 128 visible ASCII characters.\n"
                        "Default: made by the server");
  app->add_flag("--logprobs", logprobs,
                "Return each token's natural-log probability (with --json)");
  app->add_flag("--stream", stream, "Print the text as it is generated");
  app->add_flag("--json", json, "Print JSON");
  prompt = AddValue(app, "PROMPT", "",
                    "Text to continue, may be ''; <s> is put before it. '-' reads standard\n"
                    "input. After '--' a prompt may begin with '-'")
               ->required();
}

absl::StatusOr<v1::GenerateRequest> GenerateArguments::Read() const {
  v1::GenerateRequest request;
  v1::SamplingParams* sampling = request.mutable_sampling();
  MONET_ASSIGN_OR_RETURN(const auto temperature_value, FiniteOf(temperature));
  if (temperature_value) sampling->set_temperature(*temperature_value);
  MONET_ASSIGN_OR_RETURN(const auto top_k_value, Int32Of(top_k));
  if (top_k_value) sampling->set_top_k(*top_k_value);
  MONET_ASSIGN_OR_RETURN(const auto top_p_value, FiniteOf(top_p));
  if (top_p_value) sampling->set_top_p(*top_p_value);
  MONET_ASSIGN_OR_RETURN(const auto seed_value, Uint64Of(seed));
  if (seed_value) sampling->set_seed(*seed_value);

  v1::StopConditions* stopping = request.mutable_stopping();
  MONET_ASSIGN_OR_RETURN(const auto max_tokens_value, Int32Of(max_tokens));
  if (max_tokens_value) stopping->set_max_tokens(*max_tokens_value);
  MONET_ASSIGN_OR_RETURN(std::vector<std::string> stop_texts, TextsOf(stop));
  for (std::string& text : stop_texts) stopping->add_stop(std::move(text));
  MONET_ASSIGN_OR_RETURN(const std::vector<int32_t> stop_ids, Int32sOf(stop_token_id));
  for (int32_t id : stop_ids) stopping->add_stop_token_ids(id);

  MONET_ASSIGN_OR_RETURN(const auto model_name, TextOf(model));
  if (model_name) request.set_model(*model_name);
  MONET_ASSIGN_OR_RETURN(const auto id, TextOf(request_id));
  if (id) request.set_request_id(*id);
  if (logprobs) request.mutable_logprob_options()->set_logprobs(true);

  MONET_ASSIGN_OR_RETURN(*request.mutable_mask(), mask.Read());
  std::string text = prompt->results()[0];
  if (text == "-") {
    MONET_ASSIGN_OR_RETURN(text, ReadInput(text));
  }
  MONET_RETURN_IF_ERROR(RequireUtf8("PROMPT", text));
  request.mutable_prompt()->set_text(std::move(text));
  return request;
}

Json WholeJson(const v1::ResponseHeader& header, const v1::Completion& completion,
               const v1::Finish& finish, bool logprobs) {
  Json json;
  json["text"] = completion.text();
  json["policies"] = AppliedPoliciesJson(header.mask().policies());
  json["mask_digest"] = header.mask().digest();
  json["usage"] = UsageJson(finish.usage());
  AddFinishReason(finish, &json);
  json["token_ids"] = completion.token_ids();
  if (logprobs) json["logprobs"] = completion.logprobs();
  json["seed"] = header.seed();
  AddIdentity(header, &json);
  AddRemoved(header.mask(), &json);
  json["removed_weight_share"] = finish.removed_weight_share();
  return json;
}

Json HeaderEvent(const v1::ResponseHeader& header) {
  Json json;
  json["event"] = "header";
  AddIdentity(header, &json);
  json["policies"] = AppliedPoliciesJson(header.mask().policies());
  json["mask_digest"] = header.mask().digest();
  AddRemoved(header.mask(), &json);
  json["seed"] = header.seed();
  json["prompt_tokens"] = header.prompt_tokens();
  return json;
}

Json DeltaEvent(const v1::Completion& delta, bool logprobs) {
  Json json;
  json["event"] = "delta";
  json["text"] = delta.text();
  json["token_ids"] = delta.token_ids();
  if (logprobs) json["logprobs"] = delta.logprobs();
  return json;
}

Json FinishEvent(const v1::Finish& finish) {
  Json json;
  json["event"] = "finish";
  AddFinishReason(finish, &json);
  json["usage"] = UsageJson(finish.usage());
  json["removed_weight_share"] = finish.removed_weight_share();
  return json;
}

// On a terminal the shell's prompt goes on a line of its own.
absl::Status EndText(const std::string& text, Console* console) {
  if (!console->stdout_is_terminal() || text.ends_with('\n')) return absl::OkStatus();
  return console->Write("\n");
}

// Takes the messages of a stream in, checks their order, prints and collects them.
class StreamPrinter {
 public:
  StreamPrinter(const v1::GenerateRequest* request, const GenerateArguments* arguments,
                Console* console)
      : request_(request), arguments_(arguments), console_(console) {}

  absl::Status Take(const v1::GenerateStreamResponse& message) {
    if (message.has_header() == has_header_) return BadAnswer("one header must open the stream");
    if (finished_) return BadAnswer("the stream goes on after its finish");
    if (message.has_header()) return TakeHeader(message.header());
    if (message.has_delta()) return TakeDelta(message.delta());
    if (!message.has_finish()) return BadAnswer("a message of the stream is empty");
    finished_ = true;
    finish_ = message.finish();
    return arguments_->json ? console_->Write(Line(FinishEvent(finish_))) : absl::OkStatus();
  }

  // After the stream has ended with status OK.
  absl::Status End() {
    if (!finished_) return BadAnswer("the stream ended without a finish");
    if (!arguments_->json) return EndText(whole_.text(), console_);
    return console_->Write(Line(WholeJson(header_, whole_, finish_, arguments_->logprobs)));
  }

 private:
  absl::Status TakeHeader(const v1::ResponseHeader& header) {
    has_header_ = true;
    header_ = header;
    MONET_RETURN_IF_ERROR(CheckApplied(request_->mask(), header_.mask()));
    return arguments_->json ? console_->Write(Line(HeaderEvent(header_))) : absl::OkStatus();
  }

  absl::Status TakeDelta(const v1::Completion& delta) {
    whole_.mutable_text()->append(delta.text());
    whole_.mutable_token_ids()->MergeFrom(delta.token_ids());
    whole_.mutable_logprobs()->MergeFrom(delta.logprobs());
    return console_->Write(arguments_->json ? Line(DeltaEvent(delta, arguments_->logprobs))
                                            : delta.text());
  }

  const v1::GenerateRequest* request_;
  const GenerateArguments* arguments_;
  Console* console_;
  bool has_header_ = false;
  bool finished_ = false;
  v1::ResponseHeader header_;
  v1::Completion whole_;
  v1::Finish finish_;
};

absl::Status RunStream(const v1::GenerateRequest& request, const GenerateArguments& arguments,
                       Connection* connection, Console* console) {
  v1::GenerateStreamRequest stream_request;
  *stream_request.mutable_request() = request;
  StreamPrinter printer(&request, &arguments, console);
  MONET_RETURN_IF_ERROR(connection->Call([&](grpc::ClientContext* context) -> absl::Status {
    const auto reader = connection->generation().GenerateStream(context, stream_request);
    v1::GenerateStreamResponse message;
    absl::Status status;
    while (status.ok() && reader->Read(&message)) status = printer.Take(message);
    if (!status.ok()) context->TryCancel();
    const grpc::Status end = reader->Finish();
    return status.ok() ? FromCall(end) : status;
  }));
  return printer.End();
}

absl::Status RunUnary(const v1::GenerateRequest& request, const GenerateArguments& arguments,
                      Connection* connection, Console* console) {
  v1::GenerateResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->generation().Generate(context, request, &response);
  }));
  if (response.completions_size() != 1 || response.finishes_size() != 1) {
    return BadAnswer("{} completions and {} finishes instead of one each",
                     response.completions_size(), response.finishes_size());
  }
  MONET_RETURN_IF_ERROR(CheckApplied(request.mask(), response.header().mask()));
  const v1::Completion& completion = response.completions(0);
  if (arguments.json) {
    return console->Write(
        Line(WholeJson(response.header(), completion, response.finishes(0), arguments.logprobs)));
  }
  MONET_RETURN_IF_ERROR(console->Write(completion.text()));
  return EndText(completion.text(), console);
}

absl::Status RunGenerate(const GenerateArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  MONET_ASSIGN_OR_RETURN(const v1::GenerateRequest request, arguments.Read());
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  return arguments.stream ? RunStream(request, arguments, connection.get(), session.console)
                          : RunUnary(request, arguments, connection.get(), session.console);
}

}  // namespace

Command AddGenerate(CLI::App* root) {
  CLI::App* app = root->add_subcommand("generate", "Continue a prompt");
  app->footer(kExample);
  auto arguments = std::make_shared<GenerateArguments>(app);
  return {app, [arguments](const Session& session) { return RunGenerate(*arguments, session); }};
}

}  // namespace monet::cli
