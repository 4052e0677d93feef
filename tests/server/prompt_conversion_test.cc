// Prompts as token ids: what the server adds, what truncation keeps, and that no text gives a
// control token.
#include "server/prompt_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "server/request_conversion.h"
#include "tests/server/demo_tokenizer.h"

namespace monet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

constexpr int32_t kBos = 1;
constexpr int32_t kEos = 2;
constexpr char kWords[] = "one two three four five";
constexpr v1::Truncation kDropStart = v1::TRUNCATION_DROP_START;
constexpr v1::Truncation kDropEnd = v1::TRUNCATION_DROP_END;

ServedShape TestShape(int32_t context = 32) {
  ServedShape shape = {"demo", MaskShape{2, 5}, 4096, context};
  shape.chat_template = ChatTemplate::kLlama2;
  return shape;
}

Ids Encoded(const std::string& text) { return *DemoTokenizer().Encode(text); }

Ids Joined(std::initializer_list<Ids> parts) {
  Ids all;
  for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

v1::Prompt TextPrompt(const std::string& text) {
  v1::Prompt prompt;
  prompt.set_text(text);
  return prompt;
}

// 100, 101, …
v1::Prompt IdsPrompt(int count) {
  v1::Prompt prompt;
  for (int i = 0; i < count; ++i) prompt.mutable_token_ids()->add_ids(100 + i);
  return prompt;
}

v1::Prompt UserPrompt(const std::string& text) {
  v1::Prompt prompt;
  v1::ChatMessage* message = prompt.mutable_conversation()->add_messages();
  message->set_role(v1::ROLE_USER);
  message->set_content(text);
  return prompt;
}

v1::Prompt Cut(v1::Prompt prompt, v1::Truncation truncation, int32_t tokens) {
  prompt.set_truncation(truncation);
  prompt.set_truncate_prompt_tokens(tokens);
  return prompt;
}

PromptTokens Tokens(const v1::Prompt& prompt, int32_t room = 32) {
  const auto input = ConvertPrompt(prompt, TestShape());
  EXPECT_TRUE(input.ok()) << Message(input.status());
  const auto tokens = TokenizePrompt(*input, DemoTokenizer(), room);
  EXPECT_TRUE(tokens.ok()) << Message(tokens.status());
  return *tokens;
}

absl::Status ErrorOf(const v1::Prompt& prompt, const ServedShape& shape = TestShape()) {
  const auto input = ConvertPrompt(prompt, shape);
  if (!input.ok()) return input.status();
  return TokenizePrompt(*input, DemoTokenizer(), shape.context).status();
}

TEST(Prompt, PutsBeginningOfSequenceBeforeText) {
  EXPECT_EQ(Tokens(TextPrompt("Shut up, you")).ids, Joined({{kBos}, Encoded("Shut up, you")}));
  EXPECT_THAT(Tokens(TextPrompt("")).ids, ElementsAre(kBos));
  EXPECT_THAT(Tokens(IdsPrompt(2)).ids, ElementsAre(100, 101)) << "ids are as given";
}

TEST(Prompt, TokenisesTurnsBetweenRealTokens) {
  v1::Prompt prompt = UserPrompt("Hi");
  EXPECT_EQ(Tokens(prompt).ids, Joined({{kBos}, Encoded("[INST] Hi [/INST]")}));
  v1::ChatMessage* message = prompt.mutable_conversation()->add_messages();
  message->set_role(v1::ROLE_ASSISTANT);
  message->set_content("Yes?");
  *prompt.mutable_conversation()->add_messages() = UserPrompt("No").conversation().messages(0);
  EXPECT_EQ(Tokens(prompt).ids, Joined({{kBos},
                                        Encoded("[INST] Hi [/INST] Yes? "),
                                        {kEos, kBos},
                                        Encoded("[INST] No [/INST]")}));
}

TEST(Prompt, NeverTakesControlTokensFromText) {
  for (const char* text :
       {"<s>", "</s>", "a </s><s>[INST b", "<unk>", "<0x41>", "\xE2\x96\x81<s>"}) {
    Ids ids = Tokens(TextPrompt(text)).ids;
    for (size_t i = 1; i < ids.size(); ++i) EXPECT_FALSE(DemoTokenizer().IsControl(ids[i])) << text;
    ids = Tokens(UserPrompt(text)).ids;
    for (size_t i = 1; i < ids.size(); ++i) EXPECT_FALSE(DemoTokenizer().IsControl(ids[i])) << text;
  }
}

// Every length against every room, for ids and for text, against the rule written plainly.
TEST(Truncation, KeepsWhatItSays) {
  for (int count = 1; count <= 8; ++count) {
    for (int room = 1; room <= 9; ++room) {
      Ids all(static_cast<size_t>(count));
      std::iota(all.begin(), all.end(), 100);
      const int kept = std::min(count, room);
      const PromptTokens end = Tokens(Cut(IdsPrompt(count), kDropEnd, room));
      EXPECT_EQ(end.ids, Ids(all.begin(), all.begin() + kept));
      EXPECT_EQ(end.truncated, count - kept);
      const PromptTokens start = Tokens(Cut(IdsPrompt(count), kDropStart, room));
      EXPECT_EQ(start.ids, Ids(all.end() - kept, all.end()));
      EXPECT_EQ(start.truncated, count - kept);
    }
  }
  const Ids text = Encoded(kWords);
  ASSERT_GT(text.size(), 3u);
  const auto size = static_cast<int32_t>(text.size());
  for (const v1::Prompt& prompt : {TextPrompt(kWords), UserPrompt(kWords)}) {
    const Ids whole = Tokens(prompt).ids;
    const auto length = static_cast<int32_t>(whole.size());
    for (int32_t room = 1; room <= length; ++room) {
      const PromptTokens start = Tokens(Cut(prompt, kDropStart, room));
      EXPECT_EQ(start.ids, Joined({{kBos}, Ids(whole.end() - (room - 1), whole.end())}));
      EXPECT_EQ(start.truncated, length - room);
      const PromptTokens end = Tokens(Cut(prompt, kDropEnd, room));
      EXPECT_EQ(end.ids, Ids(whole.begin(), whole.begin() + room));
      EXPECT_EQ(end.truncated, length - room);
    }
  }
  EXPECT_EQ(Tokens(Cut(TextPrompt(kWords), v1::TRUNCATION_REFUSE, size + 1)).truncated, 0);
}

TEST(Truncation, TakesTheRoomWhenItNamesNoNumber) {
  v1::Prompt prompt = IdsPrompt(8);
  prompt.set_truncation(kDropEnd);
  EXPECT_THAT(Tokens(prompt, 3).ids, ElementsAre(100, 101, 102));
  EXPECT_THAT(Tokens(prompt, 0).ids, ElementsAre(100)) << "never none";
  EXPECT_EQ(Tokens(IdsPrompt(8), 3).ids.size(), 8u) << "not asked for";
}

TEST(Truncation, RefusesWhenAskedTo) {
  for (const auto truncation : {v1::TRUNCATION_REFUSE, v1::TRUNCATION_UNSPECIFIED}) {
    EXPECT_TRUE(ErrorOf(Cut(IdsPrompt(8), truncation, 8)).ok());
    const absl::Status status = ErrorOf(Cut(IdsPrompt(8), truncation, 7));
    EXPECT_EQ(Message(status),
              "prompt is 8 tokens, limit 7, which is prompt.truncate_prompt_tokens");
    EXPECT_EQ(FieldOf(status), "prompt");
  }
}

TEST(Truncation, IsChecked) {
  EXPECT_THAT(Message(ErrorOf(Cut(IdsPrompt(1), kDropEnd, 0))),
              HasSubstr("prompt.truncate_prompt_tokens is 0, range 1 to 32"));
  EXPECT_THAT(Message(ErrorOf(Cut(IdsPrompt(1), kDropEnd, 33))), HasSubstr("is 33, range 1 to 32"));
  EXPECT_TRUE(ErrorOf(Cut(IdsPrompt(1), kDropEnd, 32)).ok());
  EXPECT_THAT(Message(ErrorOf(Cut(IdsPrompt(1), static_cast<v1::Truncation>(9), 1))),
              HasSubstr("prompt.truncation is 9, which is none of the values known"));
  v1::Prompt prompt = IdsPrompt(1);
  prompt.set_truncate_prompt_tokens(1);
  EXPECT_THAT(Message(ErrorOf(prompt)), HasSubstr("needs prompt.truncation"));
}

// What could never fit is refused early only where nothing may be cut.
TEST(Truncation, LiftsTheLimitOfTheContextAndNoOther) {
  ServedShape shape = TestShape();
  shape.max_text_bytes = 40;
  const std::string text(41, 'x');
  EXPECT_EQ(ReasonOf(ErrorOf(TextPrompt(text), shape)).reason, Reason::kContextTooLong);
  EXPECT_TRUE(ErrorOf(Cut(TextPrompt(text), kDropStart, 5), shape).ok());
  const std::string chat(40 - std::string("[INST]  [/INST]").size(), 'x');
  EXPECT_TRUE(ErrorOf(UserPrompt(chat), shape).ok());
  EXPECT_EQ(Message(ErrorOf(UserPrompt(chat + "x"), shape)),
            "prompt.conversation is 41 bytes, limit 40: more cannot fit the context of 32 tokens");
  EXPECT_TRUE(ErrorOf(Cut(UserPrompt(chat + "x"), kDropStart, 5), shape).ok());
  EXPECT_EQ(ReasonOf(ErrorOf(IdsPrompt(33))).reason, Reason::kContextTooLong);
  EXPECT_TRUE(ErrorOf(Cut(IdsPrompt(33), kDropEnd, 5)).ok());

  v1::Prompt ids = Cut(IdsPrompt(1), kDropEnd, 5);
  ids.mutable_token_ids()->mutable_ids()->Resize(limits::kMaxPromptTokenIds, 3);
  EXPECT_TRUE(ErrorOf(ids).ok());
  ids.mutable_token_ids()->add_ids(3);
  EXPECT_THAT(Message(ErrorOf(ids)), HasSubstr("has 1048577 ids, range 1 to 1048576"));
  EXPECT_THAT(
      Message(ErrorOf(Cut(TextPrompt(std::string(limits::kMaxPromptBytes + 1, 'x')), kDropEnd, 5))),
      HasSubstr("prompt.text is 1048577 bytes, limit 1048576"));
}

TEST(Conversation, IsBounded) {
  v1::Prompt prompt;
  prompt.mutable_conversation();
  EXPECT_THAT(Message(ErrorOf(prompt)), HasSubstr("messages has 0 entries, range 1 to 256"));
  for (int i = 0; i < limits::kMaxChatMessages - 1; ++i) {
    v1::ChatMessage* message = prompt.mutable_conversation()->add_messages();
    message->set_role(i % 2 == 0 ? v1::ROLE_USER : v1::ROLE_ASSISTANT);
  }
  EXPECT_TRUE(ErrorOf(Cut(prompt, kDropStart, 5)).ok());
  v1::ChatMessage system;
  system.set_role(v1::ROLE_SYSTEM);
  v1::Prompt full = prompt;
  full.mutable_conversation()->clear_messages();
  *full.mutable_conversation()->add_messages() = system;
  full.mutable_conversation()->MergeFrom(prompt.conversation());
  EXPECT_TRUE(ErrorOf(Cut(full, kDropStart, 5)).ok()) << "exactly 256";
  full.mutable_conversation()->add_messages();
  EXPECT_THAT(Message(ErrorOf(full)), HasSubstr("has 257 entries, range 1 to 256"));

  prompt = UserPrompt(std::string(limits::kMaxPromptBytes / 2, 'x'));
  *prompt.mutable_conversation()->add_messages() = prompt.conversation().messages(0);
  prompt.mutable_conversation()->mutable_messages(1)->set_role(v1::ROLE_ASSISTANT);
  *prompt.mutable_conversation()->add_messages() = UserPrompt("").conversation().messages(0);
  EXPECT_TRUE(ConvertPrompt(Cut(prompt, kDropStart, 5), TestShape()).ok());
  prompt.mutable_conversation()->mutable_messages(2)->set_content("x");
  EXPECT_THAT(Message(ErrorOf(prompt)),
              HasSubstr("prompt.conversation is 1048577 bytes, limit 1048576"));
}

TEST(Conversation, IsUtf8AndNeedsATemplate) {
  const absl::Status utf8 = ErrorOf(UserPrompt("\xff"));
  EXPECT_EQ(FieldOf(utf8), "prompt.conversation.messages[0].content");
  ServedShape shape = TestShape();
  shape.chat_template = ChatTemplate::kNone;
  const absl::Status none = ErrorOf(UserPrompt("Hi"), shape);
  EXPECT_EQ(ReasonOf(none).reason, Reason::kUnsupportedField);
  EXPECT_EQ(FieldOf(none), "prompt.conversation");
}

// With FitPrompt: how truncation and the length of the completion divide the context.
struct Fitted {
  absl::Status status;
  size_t prompt = 0;
  int32_t truncated = 0;
  int32_t max_tokens = 0;
};

Fitted Fit(const v1::Prompt& prompt, std::optional<int32_t> max_tokens, const ServedShape& shape,
           int64_t max_prompt_tokens = INT64_MAX) {
  v1::GenerateRequest request;
  *request.mutable_prompt() = prompt;
  if (max_tokens) request.mutable_stopping()->set_max_tokens(*max_tokens);
  auto input = ConvertGenerate(request, shape);
  if (!input.ok()) return {input.status()};
  input->max_prompt_tokens = max_prompt_tokens;
  Fitted fitted{FitPrompt(shape, DemoTokenizer(), &*input)};
  fitted.prompt = input->engine.prompt_ids.size();
  fitted.truncated = input->truncated_tokens;
  fitted.max_tokens = input->engine.max_tokens;
  return fitted;
}

TEST(FitPrompt, DividesTheContext) {
  v1::Prompt prompt = IdsPrompt(600);
  prompt.set_truncation(kDropStart);
  Fitted fitted = Fit(prompt, 10, TestShape(512));
  EXPECT_TRUE(fitted.status.ok());
  EXPECT_EQ(fitted.prompt, 502u) << "what max_tokens leaves";
  EXPECT_EQ(fitted.truncated, 98);
  EXPECT_EQ(fitted.max_tokens, 10);

  fitted = Fit(prompt, std::nullopt, TestShape(550));
  EXPECT_EQ(fitted.prompt, 294u) << "beside 256";
  EXPECT_EQ(fitted.max_tokens, 256);
  fitted = Fit(prompt, std::nullopt, TestShape(301));
  EXPECT_EQ(fitted.prompt, 151u) << "beside half of the context";
  EXPECT_EQ(fitted.max_tokens, 150);

  fitted = Fit(Cut(IdsPrompt(600), kDropEnd, 20), std::nullopt, TestShape(512));
  EXPECT_EQ(fitted.prompt, 20u);
  EXPECT_EQ(fitted.truncated, 580);
  EXPECT_EQ(fitted.max_tokens, 256);

  // A number given stands, whatever max_tokens leaves.
  EXPECT_EQ(Message(Fit(Cut(IdsPrompt(600), kDropEnd, 500), 13, TestShape(512)).status),
            "prompt is 500 tokens and stopping.max_tokens 13: together 513, limit 512");
  EXPECT_TRUE(Fit(Cut(IdsPrompt(600), kDropEnd, 499), 13, TestShape(512)).status.ok());
  EXPECT_FALSE(Fit(prompt, 512, TestShape(512)).status.ok()) << "no room for a prompt";
  EXPECT_EQ(Fit(prompt, 511, TestShape(512)).prompt, 1u);
}

TEST(FitPrompt, CutsToWhatTheCallerMaySend) {
  v1::Prompt prompt = IdsPrompt(600);
  EXPECT_FALSE(Fit(prompt, 10, TestShape(512), 40).status.ok()) << "may not be cut";
  prompt.set_truncation(kDropStart);
  EXPECT_EQ(Fit(prompt, 10, TestShape(512), 40).prompt, 40u);
  EXPECT_EQ(Fit(prompt, 10, TestShape(512), 40).truncated, 560);
  EXPECT_EQ(Fit(prompt, 510, TestShape(512), 40).prompt, 2u) << "what max_tokens leaves is less";
  EXPECT_EQ(Fit(prompt, std::nullopt, TestShape(512), 40).max_tokens, 256);
  // A number given stands; whether it is allowed is said when the call is charged.
  EXPECT_EQ(Fit(Cut(IdsPrompt(600), kDropEnd, 41), 10, TestShape(512), 40).prompt, 41u);

  v1::ScoreRequest score;
  *score.mutable_prompt() = prompt;
  auto input = ConvertScore(score, TestShape(512));
  ASSERT_TRUE(input.ok());
  input->max_prompt_tokens = 40;
  ASSERT_TRUE(FitPrompt(TestShape(512), DemoTokenizer(), &*input).ok());
  EXPECT_EQ(input->engine.prompt_ids.size(), 40u);
}

TEST(FitPrompt, CountsLogProbabilitiesOfWhatIsKept) {
  const ServedShape shape = TestShape(1 << 20);
  v1::GenerateRequest request;
  *request.mutable_prompt() = Cut(IdsPrompt(1), kDropEnd, 10000);
  request.mutable_prompt()->mutable_token_ids()->mutable_ids()->Resize(60000, 3);
  request.mutable_stopping()->set_max_tokens(1);
  request.mutable_logprob_options()->set_prompt_logprobs(true);
  request.mutable_logprob_options()->set_top_logprobs(20);
  auto input = ConvertGenerate(request, shape);
  EXPECT_TRUE(FitPrompt(shape, DemoTokenizer(), &*input).ok());
  request.mutable_prompt()->set_truncate_prompt_tokens(60000);
  input = ConvertGenerate(request, shape);
  EXPECT_THAT(Message(FitPrompt(shape, DemoTokenizer(), &*input)), HasSubstr("log-probabilities"));
}

TEST(FitPrompt, HoldsForScore) {
  v1::ScoreRequest request;
  *request.mutable_prompt() = IdsPrompt(40);
  EXPECT_FALSE(ConvertScore(request, TestShape()).ok());
  request.mutable_prompt()->set_truncation(kDropEnd);
  auto input = ConvertScore(request, TestShape());
  ASSERT_TRUE(FitPrompt(TestShape(), DemoTokenizer(), &*input).ok());
  EXPECT_EQ(input->engine.prompt_ids.size(), 32u) << "the whole context";
  EXPECT_EQ(input->truncated_tokens, 8);
  request.mutable_prompt()->set_truncate_prompt_tokens(1);
  input = ConvertScore(request, TestShape());
  EXPECT_THAT(Message(FitPrompt(TestShape(), DemoTokenizer(), &*input)),
              HasSubstr("prompt is 1 tokens, range 2 to 32"));
}

std::string EchoOf(const v1::Prompt& prompt) {
  v1::GenerateRequest request;
  *request.mutable_prompt() = prompt;
  request.mutable_stopping()->set_max_tokens(1);
  request.set_echo(true);
  auto input = ConvertGenerate(request, TestShape());
  EXPECT_TRUE(input.ok() && FitPrompt(TestShape(), DemoTokenizer(), &*input).ok());
  return input->echo_text;
}

TEST(FitPrompt, EchoesWhatIsKept) {
  EXPECT_EQ(EchoOf(TextPrompt("  as  given ")), "  as  given ");
  const Ids ids = Encoded("one two three four");
  const auto keep = static_cast<int32_t>(ids.size()) - 1;
  EXPECT_EQ(EchoOf(Cut(TextPrompt("one two three four"), kDropStart, keep)),
            DemoTokenizer().Decode({ids.end() - (keep - 1), ids.end()}));
  EXPECT_EQ(EchoOf(UserPrompt("Hi")), "[INST] Hi [/INST]");
  EXPECT_EQ(EchoOf(IdsPrompt(3)), DemoTokenizer().Decode({100, 101, 102}));
}

}  // namespace
}  // namespace monet::server
