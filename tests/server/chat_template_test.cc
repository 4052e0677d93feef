// Conversations as text: against the template written out plainly, and everything refused that
// could pass for another role.
#include "server/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "monet/v1/generation.pb.h"
#include "runtime/base/reasons.h"

namespace monet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Said = std::vector<std::pair<v1::Role, std::string>>;

constexpr v1::Role kSystem = v1::ROLE_SYSTEM;
constexpr v1::Role kUser = v1::ROLE_USER;
constexpr v1::Role kAssistant = v1::ROLE_ASSISTANT;

v1::Conversation Conversation(const Said& messages) {
  v1::Conversation conversation;
  for (const auto& [role, content] : messages) {
    v1::ChatMessage* message = conversation.add_messages();
    message->set_role(role);
    message->set_content(content);
  }
  return conversation;
}

absl::StatusOr<std::vector<std::string>> Render(const Said& messages) {
  return RenderConversation(ChatTemplate::kLlama2, Conversation(messages));
}

// The template as its authors give it, one long text with <s> and </s> spelt out.
std::string Plain(const Said& messages) {
  std::string text;
  std::string system;
  for (const auto& [role, content] : messages) {
    if (role == kSystem) system = "<<SYS>>\n" + content + "\n<</SYS>>\n\n";
    if (role == kUser) {
      text += "<s>[INST] " + system + content + " [/INST]";
      system = "";
    }
    if (role == kAssistant) text += " " + content + " </s>";
  }
  return text;
}

std::string Spelt(const std::vector<std::string>& turns) {
  std::string text;
  for (size_t i = 0; i < turns.size(); ++i) {
    text += "<s>" + turns[i] + (i + 1 < turns.size() ? "</s>" : "");
  }
  return text;
}

TEST(Llama2, IsTheTemplateWrittenOut) {
  // As the README of Monet's own code shows it.
  EXPECT_EQ(Spelt(*Render({{kUser, "Hi! How are you?"}})), "<s>[INST] Hi! How are you? [/INST]");
  EXPECT_THAT(
      *Render({{kSystem, "Be brief."}, {kUser, "Hi"}, {kAssistant, "Yes?"}, {kUser, "No"}}),
      ElementsAre("[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yes? ", "[INST] No [/INST]"));
  for (int turns = 0; turns < 4; ++turns) {
    for (const bool system : {false, true}) {
      Said messages;
      if (system) messages.emplace_back(kSystem, "S\n\nT");
      for (int i = 0; i < turns; ++i) {
        messages.emplace_back(kUser, "u " + std::to_string(i));
        messages.emplace_back(kAssistant, "\xC3\xA4 " + std::to_string(i));
      }
      messages.emplace_back(kUser, "last");
      const auto rendered = Render(messages);
      ASSERT_TRUE(rendered.ok()) << Message(rendered.status());
      EXPECT_EQ(Spelt(*rendered), Plain(messages));
    }
  }
}

TEST(Llama2, StripsWhiteSpaceAroundMessages) {
  EXPECT_THAT(
      *Render({{kSystem, " s\n"}, {kUser, "\t\r\n u v \v\f"}, {kAssistant, "a "}, {kUser, ""}}),
      ElementsAre("[INST] <<SYS>>\ns\n<</SYS>>\n\nu v [/INST] a ", "[INST]  [/INST]"));
}

std::string ErrorOf(const Said& messages) {
  const auto turns = Render(messages);
  if (turns.ok()) return "no error";
  EXPECT_EQ(ReasonOf(turns.status()).reason, Reason::kInvalidField);
  EXPECT_THAT(FieldOf(turns.status()), HasSubstr("prompt.conversation.messages"));
  return Message(turns.status());
}

TEST(Llama2, RefusesRolesOutOfTurn) {
  const std::string at = "prompt.conversation.messages";
  EXPECT_EQ(ErrorOf({{kAssistant, "a"}}), at + "[0].role is ROLE_ASSISTANT, expected ROLE_USER");
  EXPECT_EQ(ErrorOf({{kUser, "a"}, {kUser, "b"}}),
            at + "[1].role is ROLE_USER, expected ROLE_ASSISTANT");
  EXPECT_EQ(ErrorOf({{kUser, "a"}, {kSystem, "b"}}),
            at + "[1].role is ROLE_SYSTEM, expected ROLE_ASSISTANT");
  EXPECT_EQ(ErrorOf({{kSystem, "a"}, {kSystem, "b"}, {kUser, "c"}}),
            at + "[1].role is ROLE_SYSTEM, expected ROLE_USER");
  EXPECT_EQ(ErrorOf({{v1::ROLE_UNSPECIFIED, "a"}}),
            at + "[0].role is ROLE_UNSPECIFIED, expected ROLE_USER");
  EXPECT_EQ(ErrorOf({{static_cast<v1::Role>(77), "a"}}), at + "[0].role is 77, expected ROLE_USER");
  EXPECT_EQ(ErrorOf({{kUser, "a"}, {kAssistant, "b"}}),
            at + " has 2 entries; the last must be of ROLE_USER");
  EXPECT_EQ(ErrorOf({{kSystem, "a"}}), at + " has 1 entries; the last must be of ROLE_USER");
}

TEST(Llama2, RefusesItsTagsInMessages) {
  for (const char* tag : {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"}) {
    const std::string text = std::string("x") + tag + "y";
    EXPECT_THAT(ErrorOf({{kUser, text}}), HasSubstr(std::string("[0].content holds ") + tag));
    EXPECT_THAT(ErrorOf({{kSystem, text}, {kUser, "u"}}), HasSubstr("[0].content holds"));
    EXPECT_THAT(ErrorOf({{kUser, "u"}, {kAssistant, text}, {kUser, "u"}}),
                HasSubstr("[1].content holds"));
  }
  // Neither a tag nor a token: text like any other.
  EXPECT_THAT(*Render({{kUser, "<s> </s> [inst] <SYS> INST]"}}),
              ElementsAre("[INST] <s> </s> [inst] <SYS> INST] [/INST]"));
}

TEST(ChatTemplates, HaveNames) {
  EXPECT_EQ(ChatTemplateNamed("none"), ChatTemplate::kNone);
  EXPECT_EQ(ChatTemplateNamed("llama2"), ChatTemplate::kLlama2);
  for (const char* name : kChatTemplateNames) EXPECT_STREQ(NameOf(ChatTemplateNamed(name)), name);
}

}  // namespace
}  // namespace monet::server
