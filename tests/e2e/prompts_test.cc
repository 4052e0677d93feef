// Conversations and prompts that are cut, over a real port: each equals the same token ids given.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;

class PromptsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ServerProcess(ServerProcess::DemoArgs({"--chat-template", "llama2"}));
    ASSERT_TRUE(server_->WaitReady());
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  PromptsTest() : client_(server_->grpc_address()) {}

  Ids Tokenize(const std::string& text, bool add_bos) {
    v1::TokenizeRequest request;
    request.set_text(text);
    request.set_add_bos(add_bos);
    v1::TokenizeResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(client_.generation().Tokenize(&context, request, &response).ok());
    return {response.token_ids().begin(), response.token_ids().end()};
  }

  std::string Detokenize(const Ids& ids) {
    v1::DetokenizeRequest request;
    request.mutable_token_ids()->Add(ids.begin(), ids.end());
    v1::DetokenizeResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(client_.generation().Detokenize(&context, request, &response).ok());
    return response.text();
  }

  v1::GenerateResponse Generate(const v1::GenerateRequest& request) {
    v1::GenerateResponse response;
    const grpc::Status status = client_.Generate(request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  v1::ScoreResponse Score(const v1::Prompt& prompt) {
    v1::ScoreRequest request;
    *request.mutable_prompt() = prompt;
    v1::ScoreResponse response;
    grpc::ClientContext context;
    const grpc::Status status = client_.generation().Score(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  // Everything that can be asked of a prompt gives what the ids give.
  void ExpectSameAsIds(const v1::Prompt& prompt, const Ids& ids, int32_t truncated) {
    v1::GenerateRequest request;
    *request.mutable_prompt() = prompt;
    request.mutable_stopping()->set_max_tokens(6);
    request.mutable_sampling()->set_seed(5);
    request.mutable_sampling()->set_repetition_penalty(1.5);
    request.mutable_logprob_options()->set_logprobs(true);
    request.mutable_logprob_options()->set_prompt_logprobs(true);
    request.set_n(2);
    request.set_echo(true);
    v1::GenerateRequest plain = request;
    *plain.mutable_prompt() = IdsPrompt(ids);

    const v1::GenerateResponse got = Generate(request);
    const v1::GenerateResponse expected = Generate(plain);
    EXPECT_EQ(got.header().prompt_tokens(), std::ssize(ids));
    EXPECT_EQ(got.header().truncated_tokens(), truncated);
    EXPECT_EQ(expected.header().truncated_tokens(), 0);
    ASSERT_EQ(got.completions_size(), 2);
    for (int n = 0; n < 2; ++n) {
      EXPECT_EQ(got.completions(n).SerializeAsString(),
                expected.completions(n).SerializeAsString());
      EXPECT_THAT(got.completions(n).text(), ::testing::StartsWith(Detokenize(ids)));
      EXPECT_EQ(got.finishes(n).usage().prompt_tokens(), std::ssize(ids));
    }
    EXPECT_EQ(got.prompt_logprobs().token_ids_size(), std::ssize(ids) - 1);
    EXPECT_EQ(got.prompt_logprobs().SerializeAsString(),
              expected.prompt_logprobs().SerializeAsString());

    request.clear_n();
    const StreamResult stream = client_.Stream(request);
    EXPECT_EQ(stream.header.truncated_tokens(), truncated);
    EXPECT_EQ(stream.completion.token_ids_size(), got.completions(0).token_ids_size());
    EXPECT_EQ(stream.completion.text(), got.completions(0).text());

    const v1::ScoreResponse score = Score(prompt);
    EXPECT_EQ(score.header().truncated_tokens(), truncated);
    EXPECT_EQ(score.total_logprob(), Score(IdsPrompt(ids)).total_logprob());
  }

  static v1::Prompt IdsPrompt(const Ids& ids) {
    v1::Prompt prompt;
    prompt.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
    return prompt;
  }

  static v1::Prompt Conversation() {
    v1::Prompt prompt;
    const auto say = [&](v1::Role role, const char* content) {
      v1::ChatMessage* message = prompt.mutable_conversation()->add_messages();
      message->set_role(role);
      message->set_content(content);
    };
    say(v1::ROLE_SYSTEM, "Be brief. </s>");
    say(v1::ROLE_USER, "Shut up, you ");
    say(v1::ROLE_ASSISTANT, "stupid fool!");
    say(v1::ROLE_USER, "And the LORD");
    return prompt;
  }

  // BOS and EOS as ids, everything else by Tokenize.
  Ids ConversationIds() {
    Ids ids = Tokenize(
        "[INST] <<SYS>>\nBe brief. </s>\n<</SYS>>\n\nShut up, you [/INST] stupid fool! ", true);
    ids.push_back(2);
    const Ids last = Tokenize("[INST] And the LORD [/INST]", true);
    ids.insert(ids.end(), last.begin(), last.end());
    return ids;
  }

  static ServerProcess* server_;
  Client client_;
};

ServerProcess* PromptsTest::server_ = nullptr;

TEST_F(PromptsTest, ConversationIsItsTemplate) {
  ExpectSameAsIds(Conversation(), ConversationIds(), 0);
}

TEST_F(PromptsTest, ConversationIsCut) {
  const Ids whole = ConversationIds();
  v1::Prompt prompt = Conversation();
  prompt.set_truncation(v1::TRUNCATION_DROP_START);
  prompt.set_truncate_prompt_tokens(8);
  Ids kept = {1};
  kept.insert(kept.end(), whole.end() - 7, whole.end());
  ExpectSameAsIds(prompt, kept, static_cast<int32_t>(whole.size()) - 8);
}

TEST_F(PromptsTest, TextIsCutAtEitherEnd) {
  const Ids whole = Tokenize("And the LORD said unto Moses, Speak unto the children", true);
  ASSERT_GT(whole.size(), 8u);
  const auto dropped = static_cast<int32_t>(whole.size()) - 5;
  v1::Prompt prompt;
  prompt.set_text("And the LORD said unto Moses, Speak unto the children");
  prompt.set_truncate_prompt_tokens(5);
  prompt.set_truncation(v1::TRUNCATION_DROP_END);
  ExpectSameAsIds(prompt, {whole.begin(), whole.begin() + 5}, dropped);
  prompt.set_truncation(v1::TRUNCATION_DROP_START);
  Ids kept = {1};
  kept.insert(kept.end(), whole.end() - 4, whole.end());
  ExpectSameAsIds(prompt, kept, dropped);
}

TEST_F(PromptsTest, LongTextIsCutToTheContext) {
  std::string text;
  while (text.size() < 100000) text += "the day ";
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text(text);
  request.mutable_stopping()->set_max_tokens(2);
  v1::GenerateResponse response;
  EXPECT_THAT(client_.Generate(request, &response).error_message(), HasSubstr("cannot fit"));
  request.mutable_prompt()->set_truncation(v1::TRUNCATION_DROP_START);
  response = Generate(request);
  EXPECT_EQ(response.header().prompt_tokens(), 510);
  EXPECT_GT(response.header().truncated_tokens(), 10000);
  EXPECT_EQ(response.finishes(0).usage().completion_tokens(), 2);
}

TEST_F(PromptsTest, ModelTellsItsTemplate) {
  Client without(SharedServer().grpc_address());
  v1::GetModelResponse model;
  grpc::ClientContext first;
  ASSERT_TRUE(client_.generation().GetModel(&first, {}, &model).ok());
  EXPECT_EQ(model.chat_template(), "llama2");
  EXPECT_EQ(model.limits().max_chat_messages(), 256);
  grpc::ClientContext second;
  ASSERT_TRUE(without.generation().GetModel(&second, {}, &model).ok());
  EXPECT_EQ(model.chat_template(), "none");

  v1::GenerateRequest request;
  *request.mutable_prompt() = Conversation();
  v1::GenerateResponse response;
  const grpc::Status status = without.Generate(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("needs a chat template"));
}

}  // namespace
}  // namespace monet::e2e
