// What generate and score can say of a prompt besides its text: that it is a conversation, and
// where it may be cut.
#pragma once

#include <CLI/CLI.hpp>

#include "monet/v1/generation.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

struct PromptArguments {
  explicit PromptArguments(CLI::App* app);
  // Sets truncation, and the conversation if there is one. Errors: INVALID_ARGUMENT naming the
  // option.
  absl::Status Read(v1::Prompt* prompt) const;
  bool has_messages() const { return message->count() > 0; }

  CLI::Option *message, *truncate, *truncate_prompt_tokens;
};

}  // namespace monet::cli
