// monetctl generate, as a process, against a fake server on a real port.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/cli/fake_server.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class GenerateTest : public testing::Test {
 protected:
  CommandResult Run(std::vector<std::string> arguments, CommandOptions options = {}) {
    arguments.insert(arguments.begin(), "generate");
    options.environment.push_back("MONET_SERVER=" + server_.address());
    return RunMonetctl(arguments, options);
  }

  FakeServer server_;
};

std::vector<json> Lines(const std::string& text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  return lines;
}

void ExpectOneErrorLine(const CommandResult& result, const std::string& code) {
  EXPECT_THAT(result.errors, StartsWith("monetctl: " + code + ": "));
  EXPECT_EQ(result.errors.find('\n'), result.errors.size() - 1) << result.errors;
  EXPECT_THAT(result.output, IsEmpty());
}

TEST_F(GenerateTest, PrintsTheCompletionAndNothingElse) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"hello"}, std::vector<std::string>{"--stream", "hello"}}) {
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.output, "HELLO");
    EXPECT_THAT(result.errors, IsEmpty());
  }
}

TEST_F(GenerateTest, EndsTheLineOnATerminal) {
  CommandOptions options;
  options.output_is_terminal = true;
  EXPECT_EQ(Run({"hello"}, options).output, "HELLO\r\n");
  EXPECT_EQ(Run({"--stream", "hello"}, options).output, "HELLO\r\n");
  EXPECT_EQ(Run({"hello\n"}, options).output, "HELLO\r\n");
}

TEST_F(GenerateTest, PrintsOneJsonObject) {
  const CommandResult result =
      Run({"--json", "--policy", "alpha", "--policy", "beta@1", "--seed", "18446744073709551615",
           "--max-tokens", "2", "--request-id", "r-1", "hello"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const json object = json::parse(result.output);
  EXPECT_EQ(object["text"], "HE");
  EXPECT_EQ(object["token_ids"], json::parse("[75, 72]"));
  ASSERT_EQ(object["policies"].size(), 2u);
  EXPECT_EQ(object["policies"][0]["name"], "alpha");
  EXPECT_EQ(object["policies"][0]["version"], 2);
  EXPECT_THAT(object["policies"][0]["digest"].get<std::string>(), StartsWith("sha256:"));
  EXPECT_EQ(object["mask_digest"], "sha256:mask-beta");
  EXPECT_EQ(object["usage"],
            json::parse(R"({"prompt_tokens": 6, "completion_tokens": 2, "cached_tokens": 0})"));
  EXPECT_EQ(object["finish_reason"], "length");
  EXPECT_FALSE(object.contains("stop_token_id"));
  EXPECT_FALSE(object.contains("logprobs"));
  EXPECT_EQ(object["seed"], UINT64_MAX);
  EXPECT_EQ(object["request_id"], "r-1");
  EXPECT_EQ(object["model"], "fake");
  EXPECT_EQ(object["model_fingerprint"], "sha256:f00d");
  EXPECT_EQ(object["system_fingerprint"], "fake-0");
  EXPECT_EQ(object["experts_removed"], 15);
  EXPECT_EQ(object["experts_total"], 512);
  EXPECT_EQ(object["removed_weight_share"], 0.125);
}

TEST_F(GenerateTest, StreamsALineAMessageAndTheObjectLast) {
  const CommandResult result = Run({"--json", "--stream", "--logprobs", "--policy", "alpha", "ab"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const std::vector<json> lines = Lines(result.output);
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0]["event"], "header");
  EXPECT_EQ(lines[0]["mask_digest"], "sha256:mask-alpha");
  EXPECT_EQ(lines[0]["policies"][0]["name"], "alpha");
  EXPECT_EQ(lines[1]["event"], "delta");
  EXPECT_EQ(lines[1]["text"], "A");
  EXPECT_EQ(lines[1]["logprobs"], json::parse("[-0.5]"));
  EXPECT_EQ(lines[2]["text"], "B");
  EXPECT_EQ(lines[3]["event"], "finish");
  EXPECT_EQ(lines[3]["finish_reason"], "stop");
  EXPECT_EQ(lines[3]["stop_token_id"], 2);

  const json whole = json::parse(Run({"--json", "--logprobs", "--policy", "alpha", "ab"}).output);
  EXPECT_EQ(lines[4], whole);
  EXPECT_EQ(whole["text"], "AB");
  EXPECT_EQ(whole["logprobs"], json::parse("[-0.5, -0.5]"));
}

TEST_F(GenerateTest, PrintsAlternativesAndThePromptsLogprobs) {
  const std::vector<std::string> words = {"--json", "--logprobs", "--top-logprobs",
                                          "2",      "--echo",     "--prompt-logprobs"};
  std::vector<std::string> arguments = words;
  arguments.push_back("ab");
  const CommandResult result = Run(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const json whole = json::parse(result.output);
  EXPECT_EQ(whole["text"], "abAB");
  EXPECT_EQ(whole["token_ids"], json::parse("[68, 69]"));
  EXPECT_EQ(whole["logprobs"], json::parse("[-0.5, -0.5]"));
  EXPECT_EQ(whole["top_logprobs"], json::parse(R"([
      [{"token_id": 68, "logprob": -0.5}, {"token_id": 69, "logprob": -1.5}],
      [{"token_id": 69, "logprob": -0.5}, {"token_id": 70, "logprob": -1.5}]])"));
  EXPECT_EQ(whole["prompt_logprobs"], json::parse(R"({
      "token_ids": [100, 101], "logprobs": [-0.25, -0.25], "top_logprobs": [
      [{"token_id": 100, "logprob": -0.5}, {"token_id": 101, "logprob": -1.5}],
      [{"token_id": 101, "logprob": -0.5}, {"token_id": 102, "logprob": -1.5}]]})"));

  arguments.insert(arguments.begin(), "--stream");
  const std::vector<json> lines = Lines(Run(arguments).output);
  ASSERT_EQ(lines.size(), 7u);
  EXPECT_EQ(lines[1]["text"], "ab");
  EXPECT_EQ(lines[1]["token_ids"], json::array());
  EXPECT_EQ(lines[2]["event"], "prompt_logprobs");
  EXPECT_EQ(lines[2]["logprobs"], whole["prompt_logprobs"]["logprobs"]);
  EXPECT_EQ(lines[3]["top_logprobs"][0], whole["top_logprobs"][0]);
  EXPECT_EQ(lines[6], whole);
  EXPECT_EQ(Run({"--echo", "ab"}).output, "abAB");
  EXPECT_EQ(Run({"--echo", "--stream", "ab"}).output, "abAB");
}

TEST_F(GenerateTest, PrintsSeveralCompletionsByIndex) {
  EXPECT_EQ(Run({"--n", "2", "ab"}).output, "=== 0\nAB\n=== 1\nAB\n");
  const CommandResult result = Run({"--n", "2", "--json", "--logprobs", "ab"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const json whole = json::parse(result.output);
  EXPECT_FALSE(whole.contains("text"));
  EXPECT_FALSE(whole.contains("token_ids"));
  EXPECT_EQ(whole["seed"], 42);
  ASSERT_EQ(whole["completions"].size(), 2u);
  const json& second = whole["completions"][1];
  EXPECT_EQ(second["index"], 1);
  EXPECT_EQ(second["text"], "AB");
  EXPECT_EQ(second["finish_reason"], "stop");
  EXPECT_EQ(second["usage"]["completion_tokens"], 2);
  EXPECT_EQ(second["logprobs"], json::parse("[-0.5, -0.5]"));

  const std::vector<json> lines =
      Lines(Run({"--n", "2", "--json", "--stream", "--logprobs", "ab"}).output);
  ASSERT_EQ(lines.size(), 8u);  // header, 4 deltas, 2 finishes, the object
  EXPECT_EQ(lines[2]["index"], 1);
  EXPECT_EQ(lines[6]["event"], "finish");
  EXPECT_EQ(lines[6]["index"], 1);
  EXPECT_EQ(lines[7], whole);
  EXPECT_EQ(Run({"--n", "2", "--stream", "ab"}).exit_code, 2);
}

TEST_F(GenerateTest, SendsWhatWasAsked) {
  const std::string experts = WriteTemporaryFile("a.json", R"([{"router": 1, "ids": [7, 8]}])");
  const std::string more = WriteTemporaryFile("b.json", R"({"0": {"rows": [2], "columns": [3]}})");
  ASSERT_EQ(Run({"--temperature",
                 "0",
                 "--top-k",
                 "5",
                 "--top-p",
                 "0.5",
                 "--stop",
                 "x",
                 "--stop",
                 "[y,z]",
                 "--stop-token-id",
                 "9",
                 "--model",
                 "fake",
                 "--experts",
                 experts,
                 "--experts",
                 more,
                 "--min-p",
                 "0.25",
                 "--repetition-penalty",
                 "1.5",
                 "--presence-penalty",
                 "-0.5",
                 "--frequency-penalty",
                 "2",
                 "--logit-bias",
                 "7=-100",
                 "--logit-bias",
                 "8=1.5",
                 "--min-tokens",
                 "3",
                 "--ignore-eos",
                 "p"})
                .exit_code,
            0);
  const v1::GenerateRequest request = server_.generation.last_generate();
  EXPECT_TRUE(request.sampling().has_temperature());
  EXPECT_EQ(request.sampling().temperature(), 0.0);
  EXPECT_EQ(request.sampling().top_k(), 5);
  EXPECT_EQ(request.sampling().top_p(), 0.5);
  EXPECT_EQ(request.sampling().min_p(), 0.25);
  EXPECT_EQ(request.sampling().repetition_penalty(), 1.5);
  EXPECT_EQ(request.sampling().presence_penalty(), -0.5);
  EXPECT_EQ(request.sampling().frequency_penalty(), 2);
  EXPECT_EQ(request.sampling().logit_bias().size(), 2u);
  EXPECT_EQ(request.sampling().logit_bias().at(7), -100);
  EXPECT_EQ(request.sampling().logit_bias().at(8), 1.5);
  EXPECT_EQ(request.stopping().min_tokens(), 3);
  EXPECT_TRUE(request.stopping().ignore_eos());
  EXPECT_THAT(request.stopping().stop(), ElementsAre("x", "[y,z]"));
  EXPECT_THAT(request.stopping().stop_token_ids(), ElementsAre(9));
  EXPECT_EQ(request.model(), "fake");
  ASSERT_EQ(request.mask().experts_size(), 2);
  EXPECT_EQ(request.mask().experts(0).router(), 1);
  EXPECT_THAT(request.mask().experts(0).ids(), ElementsAre(7, 8));
  EXPECT_THAT(request.mask().experts(1).rows(), ElementsAre(2));
  EXPECT_THAT(request.mask().experts(1).columns(), ElementsAre(3));
}

TEST_F(GenerateTest, LeavesDefaultsToTheServer) {
  ASSERT_EQ(Run({"p"}).exit_code, 0);
  const v1::GenerateRequest request = server_.generation.last_generate();
  EXPECT_FALSE(request.sampling().has_temperature());
  EXPECT_FALSE(request.sampling().has_seed());
  EXPECT_FALSE(request.sampling().has_min_p());
  EXPECT_FALSE(request.sampling().has_repetition_penalty());
  EXPECT_FALSE(request.stopping().has_min_tokens());
  EXPECT_FALSE(request.stopping().has_ignore_eos());
  EXPECT_FALSE(request.stopping().has_max_tokens());
  EXPECT_EQ(request.mask().policies_size(), 0);
}

TEST_F(GenerateTest, TakesThePromptAsItIs) {
  for (const char* prompt : {"", "{}", "[a,b]", "%%", "score", "model", "ä€😀", " two  words\n"}) {
    ASSERT_EQ(Run({"--temperature", "0", prompt}).exit_code, 0) << prompt;
    EXPECT_EQ(server_.generation.last_generate().prompt().text(), prompt);
    EXPECT_TRUE(server_.generation.last_generate().prompt().has_text());
  }
  for (const char* prompt : {"-x", "--json", "++", "--", "--x="}) {
    ASSERT_EQ(Run({"--", prompt}).exit_code, 0) << prompt;
    EXPECT_EQ(server_.generation.last_generate().prompt().text(), prompt);
  }
  ASSERT_EQ(Run({"first", "--max-tokens=1", "--stop="}).exit_code, 0);
  const v1::GenerateRequest request = server_.generation.last_generate();
  EXPECT_EQ(request.prompt().text(), "first");
  EXPECT_EQ(request.stopping().max_tokens(), 1);
  EXPECT_THAT(request.stopping().stop(), ElementsAre(""));
}

TEST_F(GenerateTest, ReadsThePromptFromStandardInput) {
  CommandOptions options;
  options.input = "from\nstdin\n";
  EXPECT_EQ(Run({"-"}, options).output, "FROM\nSTDIN\n");
}

TEST_F(GenerateTest, LocalErrorsExitWith2) {
  const std::string bad = WriteTemporaryFile("bad.json", R"({"routers": [], "x": 1})");
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{},
        {"a", "b"},
        {"--seed", "-1", "p"},
        {"--seed", "1", "--seed", "2", "p"},
        {"--nope", "p"},
        {"--temperature", "warm", "p"},
        {"--timeout", "0", "p"},
        {"--min-p", "nan", "p"},
        {"--logit-bias", "7", "p"},
        {"--logit-bias", "7=", "p"},
        {"--logit-bias", "=1", "p"},
        {"--logit-bias", "7=inf", "p"},
        {"--logit-bias", "7.5=1", "p"},
        {"--logit-bias", "7=1", "--logit-bias", "7=2", "p"},
        {"--experts", bad, "p"},
        {"--server", "http://x", "p"},
        {"\xFF"},
        {"--policy", "\xFF", "p"}}) {
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    ExpectOneErrorLine(result, "INVALID_ARGUMENT");
  }
  const CommandResult result =
      Run({"--experts", testing::TempDir() + "monetctl-no-such-file", "p"});
  EXPECT_EQ(result.exit_code, 2);
  ExpectOneErrorLine(result, "NOT_FOUND");
}

TEST_F(GenerateTest, FailedCallsExitWith1) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--policy", "missing", "p"},
        std::vector<std::string>{"--stream", "--json", "--policy", "missing", "p"}}) {
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 1);
    ExpectOneErrorLine(result, "NOT_FOUND (POLICY_UNKNOWN)");
    EXPECT_THAT(result.errors, HasSubstr("mask.policies[0]: no policy 'missing'"));
  }
}

TEST_F(GenerateTest, RefusesAnAnswerWithoutThePolicy) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--policy", "ignored", "p"},
        std::vector<std::string>{"--stream", "--policy", "ignored", "p"}}) {
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 1);
    ExpectOneErrorLine(result, "INTERNAL");
  }
}

TEST_F(GenerateTest, AStreamWithoutAFinishIsAnError) {
  server_.generation.no_finish = true;
  const CommandResult result = Run({"--stream", "p"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr("ended without a finish"));
}

TEST_F(GenerateTest, AnInterruptCancelsTheCall) {
  for (const int signal : {SIGINT, SIGTERM}) {
    CommandOptions options;
    options.notice = [signal](pid_t pid) { kill(pid, signal); };
    const CommandResult result = Run({"--stream", "wait"}, options);
    EXPECT_EQ(result.exit_code, 128 + signal);
    EXPECT_EQ(result.output, "W");
    EXPECT_EQ(result.errors, "monetctl: CANCELLED: interrupted\n");
    EXPECT_TRUE(server_.generation.TakeCancelled());
  }
}

TEST_F(GenerateTest, TheTimeoutEndsTheCall) {
  const CommandResult result = Run({"--stream", "--timeout", "0.3", "wait"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, StartsWith("monetctl: DEADLINE_EXCEEDED: "));
  EXPECT_TRUE(server_.generation.TakeCancelled());
}

TEST_F(GenerateTest, ABrokenPipeEndsItQuietly) {
  CommandOptions options;
  options.close_output_after = 1;
  const CommandResult result = Run({"--stream", "--json", std::string(20000, 'a')}, options);
  EXPECT_EQ(result.exit_code, 128 + SIGPIPE);
  EXPECT_THAT(result.errors, IsEmpty());
}

TEST(Connect, ARefusedConnectionIsSaidAtOnce) {
  const CommandResult result = RunMonetctl({"generate", "--server", "127.0.0.1:1", "p"});
  EXPECT_EQ(result.exit_code, 1);
  ExpectOneErrorLine(result, "UNAVAILABLE");
  EXPECT_THAT(result.errors, HasSubstr("127.0.0.1:1"));
}

TEST(Connect, AServerThatNeverAnswersIsGivenUp) {
  // Accepts connections (the kernel does) and never says a word of HTTP/2.
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string server = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  const auto begin = std::chrono::steady_clock::now();
  const CommandResult result = RunMonetctl({"generate", "--server", server, "--timeout", "1", "p"});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
  close(listener);
  EXPECT_EQ(result.exit_code, 1);
  ExpectOneErrorLine(result, "UNAVAILABLE");
  EXPECT_THAT(result.errors, HasSubstr("within 1 s"));
}

TEST(Help, EveryCommandHasOne) {
  const CommandResult all = RunMonetctl({"--help"});
  EXPECT_EQ(all.exit_code, 0);
  for (const char* command :
       {"generate", "score", "policies", "model", "tokenize", "detokenize", "forward"}) {
    EXPECT_THAT(all.output, HasSubstr(command));
    const CommandResult result = RunMonetctl({command, "--help"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.output, HasSubstr("Example"));
    EXPECT_THAT(result.output, HasSubstr("monetctl " + std::string(command)));
    std::istringstream lines(result.output);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
  EXPECT_EQ(RunMonetctl({"--version"}).output, "monetctl " MONET_VERSION "\n");
}

TEST(Help, AMissingOrUnknownCommandIsAnError) {
  const CommandResult none = RunMonetctl({});
  EXPECT_EQ(none.exit_code, 2);
  ExpectOneErrorLine(none, "INVALID_ARGUMENT");
  const CommandResult unknown = RunMonetctl({"generat"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.errors, HasSubstr("no command 'generat'"));
}

}  // namespace
}  // namespace monet::cli
