// How a conversation becomes the text that a chat model was trained on. A template is code that the
// configuration names: there is no template language, so nothing in a checkpoint or a request can
// write one.
//
// llama2, of LLaMA-2's and Monet's chat models, with real <s> and </s> tokens:
//   <s>[INST] <<SYS>>\nSYSTEM\n<</SYS>>\n\nUSER [/INST] ASSISTANT </s><s>[INST] USER [/INST]
// Its tags are ordinary text to the tokenizer, so a message that holds one is refused: it could
// pass for another role.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/status.h"

namespace monet::v1 {
class Conversation;
}

namespace monet::server {

enum class ChatTemplate : uint8_t { kNone, kLlama2 };

// Names in the configuration and the API, in the order of the enumeration.
inline constexpr std::array<const char*, 2> kChatTemplateNames = {"none", "llama2"};
const char* NameOf(ChatTemplate chat_template);
// REQUIRES: one of the names.
ChatTemplate ChatTemplateNamed(const std::string& name);

// The text of each turn, a user's message with the answer to it. A turn is tokenised by itself, put
// behind <s> and, unless it is the last, before </s>. Errors: refusals that name the message, for
// roles out of turn and for text that holds a tag. REQUIRES: not kNone.
absl::StatusOr<std::vector<std::string>> RenderConversation(ChatTemplate chat_template,
                                                            const v1::Conversation& conversation);

}  // namespace monet::server
