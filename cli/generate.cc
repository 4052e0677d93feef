// monetctl generate: one completion, whole or as a stream.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/color.h"
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
    "  git diff | monetctl generate --json --server 10.0.0.5:50051 -\n"
    "  monetctl generate --message 'system:Be brief.' --message 'user:Who are you?'\n\n"
    "Without --json the completion alone is printed, without the prompt. With --json one object:\n"
    "text, policies, mask_digest, usage, finish_reason, token_ids, truncated_tokens, seed and "
    "what\n"
    "identifies call and model. With --stream --json a line a message (\"event\": header,\n"
    "prompt_logprobs, delta or finish), the last line being that object.\n\n"
    "--logprobs adds \"logprobs\": [-0.5, ...], one for each of token_ids. --top-logprobs adds "
    "beside\n"
    "it \"top_logprobs\": a list for each token, [{\"token_id\": 7, \"logprob\": -0.5}, ...], "
    "most\n"
    "probable first. --prompt-logprobs adds \"prompt_logprobs\": {\"token_ids\", \"logprobs\",\n"
    "\"top_logprobs\"} of the prompt without its first token.\n\n"
    "--return-routing adds \"routing\": for each token that was run and each router "
    "{\"position\",\n"
    "\"router\", \"active_experts\", \"removed_weight\", \"experts\": [{\"i\", \"j\", \"weight\",\n"
    "\"removed\"}]}; see monetctl explain.\n\n"
    "On a terminal --logprobs colours the text by probability (--color).\n\n"
    "With --n above 1 the object has \"completions\", a list by \"index\", instead of text,\n"
    "usage, finish_reason, token_ids, logprobs and removed_weight_share, which each of its "
    "entries\n"
    "has; deltas and finishes of a stream have \"index\". Without --json each completion follows "
    "a\n"
    "line \"=== INDEX\".";

Json CompletionsJson(const v1::GenerateResponse& response, bool logprobs) {
  Json list = Json::array();
  for (int n = 0; n < response.completions_size(); ++n) {
    Json json = {{"index", n}, {"text", response.completions(n).text()}};
    json["usage"] = UsageJson(response.finishes(n).usage());
    AddFinishReason(response.finishes(n), &json);
    AddTokens(response.completions(n), logprobs, &json);
    json["removed_weight_share"] = response.finishes(n).removed_weight_share();
    list.push_back(std::move(json));
  }
  return list;
}

// One completion's fields stand in the object itself.
Json WholeJson(const v1::GenerateResponse& response, bool logprobs) {
  const v1::ResponseHeader& header = response.header();
  const v1::Completion& completion = response.completions(0);
  const v1::Finish& finish = response.finishes(0);
  const bool one = response.completions_size() == 1;
  Json json;
  if (one) json["text"] = completion.text();
  if (!one) json["completions"] = CompletionsJson(response, logprobs);
  json["policies"] = AppliedPoliciesJson(header.mask().policies());
  json["mask_digest"] = header.mask().digest();
  if (one) {
    json["usage"] = UsageJson(finish.usage());
    AddFinishReason(finish, &json);
    AddTokens(completion, logprobs, &json);
  }
  if (response.has_prompt_logprobs()) {
    json["prompt_logprobs"] = PromptLogprobsJson(response.prompt_logprobs());
  }
  json["truncated_tokens"] = header.truncated_tokens();
  json["seed"] = header.seed();
  AddIdentity(header, &json);
  AddRemoved(header.mask(), &json);
  if (one) json["removed_weight_share"] = finish.removed_weight_share();
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
  json["truncated_tokens"] = header.truncated_tokens();
  return json;
}

Json DeltaEvent(const v1::Completion& delta, bool one, bool logprobs) {
  Json json;
  json["event"] = "delta";
  if (!one) json["index"] = delta.index();
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

Json FinishEvent(const v1::Finish& finish, bool one) {
  Json json;
  json["event"] = "finish";
  if (!one) json["index"] = finish.index();
  AddFinishReason(finish, &json);
  json["usage"] = UsageJson(finish.usage());
  json["removed_weight_share"] = finish.removed_weight_share();
  return json;
}

// A server refuses what is out of range; what it answers is held against this.
size_t CompletionsAsked(const v1::GenerateRequest& request) {
  return request.has_n() ? static_cast<size_t>(std::clamp(request.n(), 1, 1024)) : 1;
}

// On a terminal the shell's prompt goes on a line of its own.
absl::Status EndText(const std::string& text, Console* console) {
  if (!console->stdout_is_terminal() || text.ends_with('\n')) return absl::OkStatus();
  return console->Write("\n");
}

absl::Status PrintTexts(const std::vector<std::string>& texts, Console* console) {
  if (texts.size() == 1) {
    MONET_RETURN_IF_ERROR(console->Write(texts[0]));
    return EndText(texts[0], console);
  }
  for (size_t index = 0; index < texts.size(); ++index) {
    MONET_RETURN_IF_ERROR(console->Write(fmt::format("=== {}\n{}\n", index, texts[index])));
  }
  return absl::OkStatus();
}

// Takes the messages of a stream in, checks their order, prints and collects them.
class StreamPrinter {
 public:
  StreamPrinter(const v1::GenerateRequest* request, const GenerateArguments* arguments, bool colors,
                Console* console)
      : request_(request), arguments_(arguments), colors_(colors), console_(console) {
    const size_t n = CompletionsAsked(*request);
    finished_.resize(n);
    shown_.resize(n);
    pending_.resize(n, kNothingPending);
    for (size_t index = 0; index < n; ++index) {
      whole_.add_completions()->set_index(static_cast<int32_t>(index));
      whole_.add_finishes();
    }
  }

  absl::Status Take(const v1::GenerateStreamResponse& message) {
    if (message.has_header() == has_header_) return BadAnswer("one header must open the stream");
    if (message.has_header()) return TakeHeader(message.header());
    if (message.has_prompt_logprobs()) return TakePromptLogprobs(message.prompt_logprobs());
    if (message.has_delta()) return TakeDelta(message.delta());
    if (!message.has_finish()) return BadAnswer("a message of the stream is empty");
    return TakeFinish(message.finish());
  }

  // After the stream has ended with status OK.
  absl::Status End() {
    if (std::find(finished_.begin(), finished_.end(), false) != finished_.end()) {
      return BadAnswer("the stream ended without a finish");
    }
    if (arguments_->json) return console_->Write(Line(WholeJson(whole_, arguments_->logprobs)));
    if (!arguments_->stream) return PrintTexts(shown_, console_);
    return EndText(whole_.completions(0).text(), console_);
  }

 private:
  absl::Status TakeHeader(const v1::ResponseHeader& header) {
    has_header_ = true;
    *whole_.mutable_header() = header;
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

  // Whether more may come of a completion.
  absl::Status CheckIndex(int32_t index) const {
    if (index < 0 || index >= std::ssize(finished_)) {
      return BadAnswer("completion {} of {} in the stream", index, finished_.size());
    }
    if (finished_[static_cast<size_t>(index)]) {
      return BadAnswer("the stream goes on after its finish");
    }
    return absl::OkStatus();
  }

  absl::Status TakeFinish(const v1::Finish& finish) {
    MONET_RETURN_IF_ERROR(CheckIndex(finish.index()));
    finished_[static_cast<size_t>(finish.index())] = true;
    *whole_.mutable_finishes(finish.index()) = finish;
    return WriteEvent(FinishEvent(finish, finished_.size() == 1));
  }

  absl::Status TakeDelta(const v1::Completion& delta) {
    MONET_RETURN_IF_ERROR(CheckIndex(delta.index()));
    v1::Completion* whole = whole_.mutable_completions(delta.index());
    whole->mutable_text()->append(delta.text());
    whole->mutable_token_ids()->MergeFrom(delta.token_ids());
    whole->mutable_logprobs()->MergeFrom(delta.logprobs());
    whole->mutable_top_logprobs()->MergeFrom(delta.top_logprobs());
    whole->mutable_routing()->MergeFrom(delta.routing());
    if (!arguments_->json) {
      const std::string text = colors_ ? Painted(delta) : delta.text();
      if (arguments_->stream) return console_->Write(text);
      shown_[static_cast<size_t>(delta.index())] += text;
      return absl::OkStatus();
    }
    return WriteEvent(DeltaEvent(delta, finished_.size() == 1, arguments_->logprobs));
  }

  // Text in the colour of the least probable of its tokens; those that came without text, since it
  // was held back, count to the next. Text of no token, such as an echo, stays as it is.
  std::string Painted(const v1::Completion& delta) {
    float& pending = pending_[static_cast<size_t>(delta.index())];
    for (const float logprob : delta.logprobs()) pending = std::min(pending, logprob);
    if (delta.text().empty() || pending == kNothingPending) return delta.text();
    return Paint(delta.text(), std::exchange(pending, kNothingPending));
  }

  static constexpr float kNothingPending = std::numeric_limits<float>::infinity();

  const v1::GenerateRequest* request_;
  const GenerateArguments* arguments_;
  bool colors_;
  Console* console_;
  bool has_header_ = false;
  std::vector<bool> finished_;      // by index
  std::vector<std::string> shown_;  // by index: what is printed at the end, without --stream
  std::vector<float> pending_;      // by index: least log-probability of tokens not yet shown
  v1::GenerateResponse whole_;
};

absl::Status RunStream(const v1::GenerateRequest& request, const GenerateArguments& arguments,
                       bool colors, Connection* connection, Console* console) {
  v1::GenerateStreamRequest stream_request;
  *stream_request.mutable_request() = request;
  StreamPrinter printer(&request, &arguments, colors, console);
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
  const int n = static_cast<int>(CompletionsAsked(request));
  if (response.completions_size() != n || response.finishes_size() != n) {
    return BadAnswer("{} completions and {} finishes instead of {} each",
                     response.completions_size(), response.finishes_size(), n);
  }
  MONET_RETURN_IF_ERROR(CheckApplied(request.mask(), response.header().mask()));
  if (arguments.json) return console->Write(Line(WholeJson(response, arguments.logprobs)));
  std::vector<std::string> texts;
  for (const v1::Completion& completion : response.completions()) {
    texts.push_back(completion.text());
  }
  return PrintTexts(texts, console);
}

absl::Status RunGenerate(const GenerateArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  MONET_ASSIGN_OR_RETURN(const v1::GenerateRequest request, arguments.Read());
  MONET_ASSIGN_OR_RETURN(const bool may_color, arguments.color.Read(*session.console));
  const bool colors = may_color && arguments.logprobs && !arguments.json;
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  // Only a stream says which text is of which token.
  return arguments.stream || colors
             ? RunStream(request, arguments, colors, connection.get(), session.console)
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
