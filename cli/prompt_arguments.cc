#include "cli/prompt_arguments.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options.h"

namespace monet::cli {
namespace {

struct NamedRole {
  std::string_view name;
  v1::Role role;
};
constexpr NamedRole kRoles[] = {
    {"system", v1::ROLE_SYSTEM}, {"user", v1::ROLE_USER}, {"assistant", v1::ROLE_ASSISTANT}};

// "ROLE:TEXT"
absl::Status ReadMessage(const std::string& text, v1::ChatMessage* message) {
  for (const NamedRole& known : kRoles) {
    if (!text.starts_with(known.name) || text.substr(known.name.size(), 1) != ":") continue;
    message->set_role(known.role);
    message->set_content(text.substr(known.name.size() + 1));
    return absl::OkStatus();
  }
  return InvalidArgument("--message is '{}', must be system:TEXT, user:TEXT or assistant:TEXT",
                         text);
}

}  // namespace

PromptArguments::PromptArguments(CLI::App* app) {
  message =
      AddRepeated(app, "--message", "ROLE:TEXT",
                  "A message of a conversation, instead of a text: system:TEXT, user:TEXT or\n"
                  "assistant:TEXT; to be repeated, a user's last. The server's chat template\n"
                  "makes the prompt");
  truncate = AddValue(app, "--truncate", "END",
                      "Cut a prompt that is too long at its 'start' or 'end'. Default: refuse it");
  truncate_prompt_tokens = AddValue(app, "--truncate-prompt-tokens", "N",
                                    "With --truncate: keep N tokens, <s> included.\n"
                                    "Default: what the context leaves beside the completion");
}

absl::Status PromptArguments::Read(v1::Prompt* prompt) const {
  MONET_ASSIGN_OR_RETURN(const std::vector<std::string> messages, TextsOf(message));
  for (const std::string& text : messages) {
    MONET_RETURN_IF_ERROR(ReadMessage(text, prompt->mutable_conversation()->add_messages()));
  }
  MONET_ASSIGN_OR_RETURN(const std::optional<std::string> end, TextOf(truncate));
  if (end && *end != "start" && *end != "end") {
    return InvalidArgument("--truncate is '{}', must be start or end", *end);
  }
  if (end) {
    prompt->set_truncation(*end == "start" ? v1::TRUNCATION_DROP_START : v1::TRUNCATION_DROP_END);
  }
  MONET_ASSIGN_OR_RETURN(const auto tokens, Int32Of(truncate_prompt_tokens));
  if (tokens && !end) return InvalidArgument("--truncate-prompt-tokens needs --truncate");
  if (tokens) prompt->set_truncate_prompt_tokens(*tokens);
  return absl::OkStatus();
}

}  // namespace monet::cli
