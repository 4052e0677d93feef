#include "cli/generate_arguments.h"

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {
namespace {

template <typename T>
bool ParseWhole(std::string_view text, T* value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && stop == end;
}

// "ID=VALUE"
absl::Status ReadLogitBias(const std::string& text, v1::SamplingParams* sampling) {
  const size_t equals = text.find('=');
  int32_t id = 0;
  double bias = 0;
  if (equals == std::string::npos || !ParseWhole(std::string_view(text).substr(0, equals), &id) ||
      !ParseWhole(std::string_view(text).substr(equals + 1), &bias) || !std::isfinite(bias)) {
    return InvalidArgument("--logit-bias is '{}', must be ID=VALUE, a token id and a number", text);
  }
  if (!sampling->mutable_logit_bias()->insert({id, bias}).second) {
    return InvalidArgument("--logit-bias is given twice for the token {}", id);
  }
  return absl::OkStatus();
}

}  // namespace

GenerateArguments::GenerateArguments(CLI::App* app)
    : server(app), mask(app), prompt_options(app), color(app) {
  AddStopping(app);
  AddSampling(app);
  model = AddValue(app, "--model", "NAME",
                   "Refuse to run on a model of another name. Default: whatever is served");
  request_id = AddValue(app, "--request-id", "ID",
                        "Your own id for the server's log, at most 128 visible ASCII characters.\n"
                        "Default: made by the server");
  app->add_flag("--logprobs", logprobs,
                "Return each token's natural-log probability: with --json, or as colours");
  app->add_flag("--prompt-logprobs", prompt_logprobs,
                "Return those of the prompt's tokens too (with --json)");
  top_logprobs =
      AddValue(app, "--top-logprobs", "N",
               "With log-probabilities: also the N most probable tokens in place of each\n"
               "token, 0 to 20. Default: 0");
  return_routing =
      AddValue(app, "--return-routing", "N",
               "Also return the N heaviest experts of each token and router, 1 to 256\n"
               "(with --json)");
  n = AddValue(app, "--n", "N", "Completions to draw, 1 to 16. Default: 1");
  app->add_flag("--echo", echo, "Print the prompt before the completion");
  app->add_flag("--stream", stream, "Print the text as it is generated");
  app->add_flag("--json", json, "Print JSON");
  prompt = AddValue(app, "PROMPT", "",
                    "Text to continue, may be ''; <s> is put before it. '-' reads standard\n"
                    "input. After '--' a prompt may begin with '-'. Or give --message");
}

void GenerateArguments::AddStopping(CLI::App* app) {
  max_tokens = AddValue(app, "--max-tokens", "N",
                        "Most tokens to generate, from 1.\n"
                        "Default: the smaller of 256 and what the context leaves");
  min_tokens = AddValue(app, "--min-tokens", "N",
                        "Fewest tokens before anything stops, 0 to --max-tokens. Default: 0");
  stop =
      AddRepeated(app, "--stop", "TEXT",
                  "End before this text; may be repeated, at most 16 of 256 bytes.\nDefault: none");
  stop_token_id = AddRepeated(app, "--stop-token-id", "ID",
                              "End at this token id; may be repeated, at most 64. Default: none\n"
                              "(the end-of-sequence token always ends)");
  app->add_flag("--ignore-eos", ignore_eos, "Go on past the end-of-sequence token");
}

void GenerateArguments::AddSampling(CLI::App* app) {
  temperature =
      AddValue(app, "--temperature", "T",
               "Divides the logits, 0 to 100; 0 takes the most probable token.\nDefault: 1");
  top_k = AddValue(app, "--top-k", "K", "Keep the K most probable tokens; 0 keeps all. Default: 0");
  top_p = AddValue(app, "--top-p", "P",
                   "Keep the fewest tokens whose probability reaches P, above 0 to 1.\nDefault: 1");
  min_p = AddValue(app, "--min-p", "P",
                   "Keep tokens at least P times as probable as the most probable one,\n"
                   "0 to 1. Default: 0");
  repetition_penalty = AddValue(app, "--repetition-penalty", "F",
                                "Divides positive and multiplies negative logits of tokens in the\n"
                                "prompt or generated, above 0 to 2. Default: 1");
  presence_penalty = AddValue(app, "--presence-penalty", "F",
                              "Subtracted from the logit of every token already generated,\n"
                              "-2 to 2. Default: 0");
  frequency_penalty = AddValue(app, "--frequency-penalty", "F",
                               "Subtracted from a token's logit for every time it was generated,\n"
                               "-2 to 2. Default: 0");
  logit_bias = AddRepeated(app, "--logit-bias", "ID=V",
                           "Add V, -100 to 100, to the logit of this token id; may be repeated.\n"
                           "Default: none");
  seed = AddValue(app, "--seed", "S",
                  "Seed of the random numbers, 0 to 18446744073709551615.\n"
                  "Default: drawn by the server and returned");
}

absl::StatusOr<v1::GenerateRequest> GenerateArguments::Read() const {
  v1::GenerateRequest request;
  MONET_RETURN_IF_ERROR(ReadSampling(request.mutable_sampling()));
  MONET_RETURN_IF_ERROR(ReadStopping(request.mutable_stopping()));
  MONET_ASSIGN_OR_RETURN(const auto model_name, TextOf(model));
  if (model_name) request.set_model(*model_name);
  MONET_ASSIGN_OR_RETURN(const auto id, TextOf(request_id));
  if (id) request.set_request_id(*id);
  if (logprobs) request.mutable_logprob_options()->set_logprobs(true);
  if (prompt_logprobs) request.mutable_logprob_options()->set_prompt_logprobs(true);
  MONET_ASSIGN_OR_RETURN(const auto top_value, Int32Of(top_logprobs));
  if (top_value) request.mutable_logprob_options()->set_top_logprobs(*top_value);
  MONET_ASSIGN_OR_RETURN(const auto routing_value, Int32Of(return_routing));
  if (routing_value) request.mutable_return_routing()->set_top_n(*routing_value);
  if (echo) request.set_echo(true);
  MONET_ASSIGN_OR_RETURN(const auto n_value, Int32Of(n));
  if (n_value) request.set_n(*n_value);
  if (stream && !json && request.n() > 1) {
    return InvalidArgument("--stream with --n above 1 needs --json: their texts come mixed");
  }

  MONET_ASSIGN_OR_RETURN(*request.mutable_mask(), mask.Read());
  MONET_RETURN_IF_ERROR(ReadPrompt(request.mutable_prompt()));
  return request;
}

absl::Status GenerateArguments::ReadPrompt(v1::Prompt* to) const {
  if (prompt_options.has_messages() == (prompt->count() > 0)) {
    return InvalidArgument("PROMPT or --message is needed, not both");
  }
  MONET_RETURN_IF_ERROR(prompt_options.Read(to));
  if (prompt_options.has_messages()) return absl::OkStatus();
  std::string text = prompt->results()[0];
  if (text == "-") {
    MONET_ASSIGN_OR_RETURN(text, ReadInput(text));
  }
  MONET_RETURN_IF_ERROR(RequireUtf8("PROMPT", text));
  to->set_text(std::move(text));
  return absl::OkStatus();
}

absl::Status GenerateArguments::ReadSampling(v1::SamplingParams* sampling) const {
  MONET_ASSIGN_OR_RETURN(const auto temperature_value, FiniteOf(temperature));
  if (temperature_value) sampling->set_temperature(*temperature_value);
  MONET_ASSIGN_OR_RETURN(const auto top_k_value, Int32Of(top_k));
  if (top_k_value) sampling->set_top_k(*top_k_value);
  MONET_ASSIGN_OR_RETURN(const auto top_p_value, FiniteOf(top_p));
  if (top_p_value) sampling->set_top_p(*top_p_value);
  MONET_ASSIGN_OR_RETURN(const auto min_p_value, FiniteOf(min_p));
  if (min_p_value) sampling->set_min_p(*min_p_value);
  MONET_ASSIGN_OR_RETURN(const auto repetition, FiniteOf(repetition_penalty));
  if (repetition) sampling->set_repetition_penalty(*repetition);
  MONET_ASSIGN_OR_RETURN(const auto presence, FiniteOf(presence_penalty));
  if (presence) sampling->set_presence_penalty(*presence);
  MONET_ASSIGN_OR_RETURN(const auto frequency, FiniteOf(frequency_penalty));
  if (frequency) sampling->set_frequency_penalty(*frequency);
  for (const std::string& entry : logit_bias->results()) {
    MONET_RETURN_IF_ERROR(ReadLogitBias(entry, sampling));
  }
  MONET_ASSIGN_OR_RETURN(const auto seed_value, Uint64Of(seed));
  if (seed_value) sampling->set_seed(*seed_value);
  return absl::OkStatus();
}

absl::Status GenerateArguments::ReadStopping(v1::StopConditions* stopping) const {
  MONET_ASSIGN_OR_RETURN(const auto max_tokens_value, Int32Of(max_tokens));
  if (max_tokens_value) stopping->set_max_tokens(*max_tokens_value);
  MONET_ASSIGN_OR_RETURN(const auto min_tokens_value, Int32Of(min_tokens));
  if (min_tokens_value) stopping->set_min_tokens(*min_tokens_value);
  MONET_ASSIGN_OR_RETURN(std::vector<std::string> stop_texts, TextsOf(stop));
  for (std::string& text : stop_texts) stopping->add_stop(std::move(text));
  MONET_ASSIGN_OR_RETURN(const std::vector<int32_t> stop_ids, Int32sOf(stop_token_id));
  for (int32_t id : stop_ids) stopping->add_stop_token_ids(id);
  if (ignore_eos) stopping->set_ignore_eos(true);
  return absl::OkStatus();
}

}  // namespace monet::cli
