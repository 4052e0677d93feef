// Log-probabilities in colour, as a process, against a fake server.
#include "cli/color.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/fake_server.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// exp(-0.5) = 0.61
constexpr char kA[] = "\033[38;5;148mA\033[0m";
constexpr char kB[] = "\033[38;5;148mB\033[0m";

class ColorTest : public testing::Test {
 protected:
  CommandResult Run(const std::vector<std::string>& arguments, bool is_terminal = false,
                    std::vector<std::string> environment = {}) {
    CommandOptions options;
    options.environment = std::move(environment);
    options.environment.insert(options.environment.end(),
                               {"MONET_SERVER=" + server_.address(), "NO_COLOR=", "TERM=xterm"});
    options.output_is_terminal = is_terminal;
    return RunMonetctl(arguments, options);
  }

  FakeServer server_;
};

TEST(Paint, GoesFromGreenToRed) {
  EXPECT_EQ(Paint("x", 0), "\033[38;5;34mx\033[0m");
  EXPECT_EQ(Paint("x", -0.3), "\033[38;5;148mx\033[0m");
  EXPECT_EQ(Paint("x", -1), "\033[38;5;220mx\033[0m");
  EXPECT_EQ(Paint("x", -2), "\033[38;5;208mx\033[0m");
  EXPECT_EQ(Paint("x", -30), "\033[38;5;196mx\033[0m");
}

TEST_F(ColorTest, IsForTerminalsUnlessToldOtherwise) {
  const std::string painted = std::string(kA) + kB;
  EXPECT_EQ(Run({"generate", "--logprobs", "ab"}).output, "AB");
  EXPECT_EQ(Run({"generate", "--logprobs", "ab"}, true).output, painted + "\r\n");
  EXPECT_EQ(Run({"generate", "--logprobs", "--stream", "ab"}, true).output, painted + "\r\n");
  EXPECT_EQ(Run({"generate", "ab"}, true).output, "AB\r\n");
  EXPECT_EQ(Run({"generate", "--logprobs", "ab"}, true, {"NO_COLOR=1"}).output, "AB\r\n");
  EXPECT_EQ(Run({"generate", "--logprobs", "ab"}, true, {"TERM=dumb"}).output, "AB\r\n");
  EXPECT_EQ(Run({"generate", "--logprobs", "--color", "never", "ab"}, true).output, "AB\r\n");
  EXPECT_EQ(
      Run({"generate", "--logprobs", "--color", "always", "ab"}, false, {"NO_COLOR=1"}).output,
      painted);
  EXPECT_THAT(Run({"generate", "--logprobs", "--color", "always", "--json", "ab"}).output,
              Not(HasSubstr("\033")));
  const CommandResult bad = Run({"generate", "--color", "sometimes", "ab"});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_THAT(bad.errors, HasSubstr("auto, always or never"));
}

TEST_F(ColorTest, EchoAndSeveralCompletionsKeepTheirForm) {
  const std::vector<std::string> always = {"generate", "--logprobs", "--color", "always"};
  std::vector<std::string> echo = always;
  echo.insert(echo.end(), {"--echo", "a"});
  EXPECT_EQ(Run(echo).output, std::string("a") + kA);
  std::vector<std::string> several = always;
  several.insert(several.end(), {"--n", "2", "a"});
  EXPECT_EQ(Run(several).output, std::string("=== 0\n") + kA + "\n=== 1\n" + kA + "\n");
}

TEST_F(ColorTest, ScoreShowsEachToken) {
  const std::string file = WriteTemporaryFile("text", "ab");
  // The fake's log-probability of an id is -id / 128: -100/128 and -101/128.
  const CommandResult plain = Run({"score", "--logprobs", "--text-file", file});
  EXPECT_EQ(plain.exit_code, 0) << plain.errors;
  EXPECT_THAT(plain.output, HasSubstr("-0.781250 \"a\"\n-0.789062 \"b\"\ntokens      2\n"));
  const CommandResult painted =
      Run({"score", "--logprobs", "--color", "always", "--text-file", file});
  EXPECT_THAT(painted.output, HasSubstr("\033[38;5;220ma\033[0m\033[38;5;220mb\033[0m\n\ntokens "));
  const json object =
      json::parse(Run({"score", "--logprobs", "--json", "--text-file", file}).output);
  EXPECT_EQ(object["token_ids"], json::parse("[100, 101]"));
  EXPECT_EQ(object["logprobs"], json::parse("[-0.78125, -0.7890625]"));
  EXPECT_FALSE(
      json::parse(Run({"score", "--json", "--text-file", file}).output).contains("logprobs"));
}

TEST_F(ColorTest, ACharacterOfSeveralTokensIsOne) {
  const std::string file = WriteTemporaryFile("text", "é€");
  const CommandResult result = Run({"score", "--logprobs", "--text-file", file});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, testing::ContainsRegex("-1.5[0-9]+ -1.[0-9]+ \"é\"\n"));
  EXPECT_THAT(result.output, HasSubstr(" \"€\"\ntokens      5\n"));
}

}  // namespace
}  // namespace monet::cli
