#include "server/chat_template.h"

#include <algorithm>
#include <string_view>

#include "monet/v1/generation.pb.h"
#include "runtime/base/check.h"
#include "runtime/base/reasons.h"

namespace monet::server {
namespace {

constexpr std::array<std::string_view, 4> kLlama2Tags = {"[INST]", "[/INST]", "<<SYS>>",
                                                         "<</SYS>>"};

std::string_view Stripped(std::string_view text) {
  constexpr std::string_view kWhiteSpace = " \t\n\v\f\r";
  const size_t first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(kWhiteSpace) - first + 1);
}

std::string RoleName(int role) {
  const std::string& name = v1::Role_Name(role);
  return name.empty() ? std::to_string(role) : name;
}

// Perhaps a system message, then user and assistant in turn, a user's last.
absl::Status CheckRoles(const v1::Conversation& conversation) {
  const int size = conversation.messages_size();
  const int first = size > 0 && conversation.messages(0).role() == v1::ROLE_SYSTEM ? 1 : 0;
  for (int i = first; i < size; ++i) {
    const auto expected = (i - first) % 2 == 0 ? v1::ROLE_USER : v1::ROLE_ASSISTANT;
    const int role = conversation.messages(i).role();
    if (role != expected) {
      return InvalidField("prompt.conversation.messages[{}].role is {}, expected {}", i,
                          RoleName(role), RoleName(expected));
    }
  }
  if ((size - first) % 2 == 0) {
    return InvalidField("prompt.conversation.messages has {} entries; the last must be of {}", size,
                        RoleName(v1::ROLE_USER));
  }
  return absl::OkStatus();
}

absl::Status CheckNoTags(const v1::Conversation& conversation) {
  for (int i = 0; i < conversation.messages_size(); ++i) {
    for (std::string_view tag : kLlama2Tags) {
      if (conversation.messages(i).content().find(tag) == std::string::npos) continue;
      return InvalidField(
          "prompt.conversation.messages[{}].content holds {}, which belongs to the chat template",
          i, tag);
    }
  }
  return absl::OkStatus();
}

}  // namespace

const char* NameOf(ChatTemplate chat_template) {
  return kChatTemplateNames[static_cast<size_t>(chat_template)];
}

ChatTemplate ChatTemplateNamed(const std::string& name) {
  const auto found = std::find(kChatTemplateNames.begin(), kChatTemplateNames.end(), name);
  MONET_CHECK(found != kChatTemplateNames.end());
  return static_cast<ChatTemplate>(found - kChatTemplateNames.begin());
}

absl::StatusOr<std::vector<std::string>> RenderConversation(ChatTemplate chat_template,
                                                            const v1::Conversation& conversation) {
  MONET_CHECK(chat_template == ChatTemplate::kLlama2);
  MONET_RETURN_IF_ERROR(CheckRoles(conversation));
  MONET_RETURN_IF_ERROR(CheckNoTags(conversation));
  std::vector<std::string> turns;
  std::string system;
  for (const v1::ChatMessage& message : conversation.messages()) {
    const std::string_view text = Stripped(message.content());
    if (message.role() == v1::ROLE_SYSTEM) {
      system = fmt::format("<<SYS>>\n{}\n<</SYS>>\n\n", text);
    } else if (message.role() == v1::ROLE_USER) {
      turns.push_back(fmt::format("[INST] {}{} [/INST]", system, text));
      system.clear();
    } else {
      turns.back() += fmt::format(" {} ", text);
    }
  }
  return turns;
}

}  // namespace monet::server
