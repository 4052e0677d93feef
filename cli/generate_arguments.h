// The options of monetctl generate, and the request that they make.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/call_options.h"
#include "cli/color.h"
#include "cli/prompt_arguments.h"
#include "monet/v1/generation.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

struct GenerateArguments {
  explicit GenerateArguments(CLI::App* app);
  // The request that was asked for; reads files and standard input. Errors: INVALID_ARGUMENT
  // naming the option.
  absl::StatusOr<v1::GenerateRequest> Read() const;

  ServerArguments server;
  MaskArguments mask;
  PromptArguments prompt_options;
  CLI::Option *max_tokens, *temperature, *top_k, *top_p, *seed, *stop, *stop_token_id;
  CLI::Option *min_p, *repetition_penalty, *presence_penalty, *frequency_penalty, *logit_bias;
  CLI::Option *min_tokens, *top_logprobs, *n, *return_routing;
  CLI::Option *model, *request_id, *prompt;
  ColorArgument color;
  bool stream = false;
  bool json = false;
  bool logprobs = false;
  bool ignore_eos = false;
  bool prompt_logprobs = false;
  bool echo = false;

 private:
  void AddSampling(CLI::App* app);
  void AddStopping(CLI::App* app);
  absl::Status ReadSampling(v1::SamplingParams* sampling) const;
  absl::Status ReadStopping(v1::StopConditions* stopping) const;
  absl::Status ReadPrompt(v1::Prompt* to) const;
};

}  // namespace monet::cli
