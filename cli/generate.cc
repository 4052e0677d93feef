// monetctl generate: one completion, whole or as a stream.
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/generate_arguments.h"
#include "cli/json_shapes.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl generate --max-tokens 40 --temperature 0 'def main():'\n"
    "  monetctl generate --policy no-python --seed 7 --stream 'def main():'\n"
    "  git diff | monetctl generate --json --server 10.0.0.5:50051 -\n\n"
    "Without --json the completion alone is printed, without the prompt. With --json one object:\n"
    "text, policies, mask_digest, usage, finish_reason, token_ids, seed and what identifies call\n"
    "and model. With --stream --json a line a message (\"event\": header, prompt_logprobs, delta "
    "or\n"
    "finish), the last line being that object.\n\n"
    "--logprobs adds \"logprobs\": [-0.5, ...], one for each of token_ids. --top-logprobs adds "
    "beside\n"
    "it \"top_logprobs\": a list for each token, [{\"token_id\": 7, \"logprob\": -0.5}, ...], "
    "most\n"
    "probable first. --prompt-logprobs adds \"prompt_logprobs\": {\"token_ids\", \"logprobs\",\n"
    "\"top_logprobs\"} of the prompt without its first token.";

Json WholeJson(const v1::GenerateResponse& response, bool logprobs) {
  const v1::ResponseHeader& header = response.header();
  const v1::Completion& completion = response.completions(0);
  const v1::Finish& finish = response.finishes(0);
  Json json;
  json["text"] = completion.text();
  json["policies"] = AppliedPoliciesJson(header.mask().policies());
  json["mask_digest"] = header.mask().digest();
  json["usage"] = UsageJson(finish.usage());
  AddFinishReason(finish, &json);
  AddTokens(completion, logprobs, &json);
  if (response.has_prompt_logprobs()) {
    json["prompt_logprobs"] = PromptLogprobsJson(response.prompt_logprobs());
  }
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
  AddTokens(delta, logprobs, &json);
  return json;
}

Json PromptLogprobsEvent(const v1::PromptLogprobs& prompt) {
  Json json;
  json["event"] = "prompt_logprobs";
  json.update(PromptLogprobsJson(prompt));
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
    if (message.has_prompt_logprobs()) return TakePromptLogprobs(message.prompt_logprobs());
    if (message.has_delta()) return TakeDelta(message.delta());
    if (!message.has_finish()) return BadAnswer("a message of the stream is empty");
    finished_ = true;
    *whole_.add_finishes() = message.finish();
    return WriteEvent(FinishEvent(message.finish()));
  }

  // After the stream has ended with status OK.
  absl::Status End() {
    if (!finished_) return BadAnswer("the stream ended without a finish");
    if (!arguments_->json) return EndText(whole_.completions(0).text(), console_);
    return console_->Write(Line(WholeJson(whole_, arguments_->logprobs)));
  }

 private:
  absl::Status TakeHeader(const v1::ResponseHeader& header) {
    has_header_ = true;
    *whole_.mutable_header() = header;
    whole_.add_completions();
    MONET_RETURN_IF_ERROR(CheckApplied(request_->mask(), header.mask()));
    return WriteEvent(HeaderEvent(header));
  }

  absl::Status TakePromptLogprobs(const v1::PromptLogprobs& prompt) {
    whole_.mutable_prompt_logprobs()->MergeFrom(prompt);
    return WriteEvent(PromptLogprobsEvent(prompt));
  }

  absl::Status WriteEvent(const Json& event) {
    return arguments_->json ? console_->Write(Line(event)) : absl::OkStatus();
  }

  absl::Status TakeDelta(const v1::Completion& delta) {
    v1::Completion* whole = whole_.mutable_completions(0);
    whole->mutable_text()->append(delta.text());
    whole->mutable_token_ids()->MergeFrom(delta.token_ids());
    whole->mutable_logprobs()->MergeFrom(delta.logprobs());
    whole->mutable_top_logprobs()->MergeFrom(delta.top_logprobs());
    return console_->Write(arguments_->json ? Line(DeltaEvent(delta, arguments_->logprobs))
                                            : delta.text());
  }

  const v1::GenerateRequest* request_;
  const GenerateArguments* arguments_;
  Console* console_;
  bool has_header_ = false;
  bool finished_ = false;
  v1::GenerateResponse whole_;
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
  if (arguments.json) return console->Write(Line(WholeJson(response, arguments.logprobs)));
  const std::string& text = response.completions(0).text();
  MONET_RETURN_IF_ERROR(console->Write(text));
  return EndText(text, console);
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
