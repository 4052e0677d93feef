// Conversations and truncation in monetctl generate and score, as processes, against a fake server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/fake_server.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

class PromptArgumentsTest : public testing::Test {
 protected:
  CommandResult Run(const std::string& command, std::vector<std::string> arguments,
                    const std::string& input = "") {
    arguments.insert(arguments.begin(), {command, "--server", server_.address()});
    CommandOptions options;
    options.input = input;
    return RunMonetctl(arguments, options);
  }

  FakeServer server_;
};

TEST_F(PromptArgumentsTest, GenerateSendsMessages) {
  ASSERT_EQ(Run("generate", {"--message", "system:a:b", "--message", "user:", "--message",
                             "assistant:\n", "--message", "user:user:x"})
                .exit_code,
            0);
  const v1::Prompt prompt = server_.generation.last_generate().prompt();
  ASSERT_EQ(prompt.conversation().messages_size(), 4);
  EXPECT_EQ(prompt.conversation().messages(0).role(), v1::ROLE_SYSTEM);
  EXPECT_EQ(prompt.conversation().messages(0).content(), "a:b");
  EXPECT_EQ(prompt.conversation().messages(1).role(), v1::ROLE_USER);
  EXPECT_EQ(prompt.conversation().messages(1).content(), "");
  EXPECT_EQ(prompt.conversation().messages(2).role(), v1::ROLE_ASSISTANT);
  EXPECT_EQ(prompt.conversation().messages(2).content(), "\n");
  EXPECT_EQ(prompt.conversation().messages(3).content(), "user:x");
  EXPECT_FALSE(prompt.has_truncation());
}

TEST_F(PromptArgumentsTest, GenerateSendsTruncation) {
  for (const bool stream : {false, true}) {
    std::vector<std::string> arguments = {"--json", "--truncate", "end", "--truncate-prompt-tokens",
                                          "3",      "abcdef"};
    if (stream) arguments.insert(arguments.begin(), "--stream");
    const CommandResult result = Run("generate", arguments);
    ASSERT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_THAT(result.output, HasSubstr("\"truncated_tokens\":4"));
    const v1::Prompt prompt = server_.generation.last_generate().prompt();
    EXPECT_EQ(prompt.truncation(), v1::TRUNCATION_DROP_END);
    EXPECT_EQ(prompt.truncate_prompt_tokens(), 3);
  }
  ASSERT_EQ(Run("generate", {"--truncate", "start", "abcdef"}).exit_code, 0);
  const v1::Prompt prompt = server_.generation.last_generate().prompt();
  EXPECT_EQ(prompt.truncation(), v1::TRUNCATION_DROP_START);
  EXPECT_FALSE(prompt.has_truncate_prompt_tokens());
}

TEST_F(PromptArgumentsTest, ScoreCutsInOneCall) {
  const CommandResult result =
      Run("score", {"--json", "--truncate", "end", "--text-file", "-"}, "more than one window");
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const json object = json::parse(result.output);
  EXPECT_EQ(object["tokens"], 7);
  EXPECT_EQ(object["truncated_tokens"], 13);
  EXPECT_EQ(object["windows"], 1);
  const std::vector<v1::ScoreRequest> scores = server_.generation.scores();
  ASSERT_EQ(scores.size(), 1u);
  EXPECT_EQ(scores[0].prompt().text(), "more than one window");
  EXPECT_EQ(scores[0].prompt().truncation(), v1::TRUNCATION_DROP_END);
}

TEST_F(PromptArgumentsTest, ScoreTakesAConversation) {
  const CommandResult result = Run("score", {"--json", "--message", "user:ab"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(json::parse(result.output)["tokens"], 2);
  EXPECT_EQ(json::parse(result.output)["mean_nll"], (100 + 101) / 128.0 / 2);
  EXPECT_EQ(server_.generation.scores()[0].prompt().conversation().messages_size(), 1);
}

TEST_F(PromptArgumentsTest, LocalErrorsExitWith2) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--message", "tool:x"},
        {"--message", "user"},
        {"--message", "users:x"},
        {"--message", "user:x", "p"},
        {"--message", "\xFF"},
        {"--truncate", "middle", "p"},
        {"--truncate-prompt-tokens", "3", "p"},
        {"--truncate", "end", "--truncate-prompt-tokens", "x", "p"},
        {}}) {
    const CommandResult result = Run("generate", arguments);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.errors, StartsWith("monetctl: INVALID_ARGUMENT: "));
  }
  EXPECT_EQ(Run("score", {}).exit_code, 2);
  EXPECT_EQ(Run("score", {"--message", "user:x", "--text-file", "-"}, "abc").exit_code, 2);
  EXPECT_EQ(Run("score", {"--message", "x"}).exit_code, 2);
  EXPECT_TRUE(server_.generation.scores().empty());
}

}  // namespace
}  // namespace monet::cli
