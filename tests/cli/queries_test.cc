// monetctl score, policies, model and tokenize, as processes, against a fake server on a real port.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/cli/fake_server.h"
#include "tests/cli/run_command.h"

namespace monet::cli {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class QueriesTest : public testing::Test {
 protected:
  CommandResult Run(std::vector<std::string> arguments, CommandOptions options = {}) {
    arguments.insert(arguments.begin() + 1, {"--server", server_.address()});
    return RunMonetctl(arguments, options);
  }

  FakeServer server_;
};

TEST_F(QueriesTest, ScoreCutsTheTextIntoWindows) {
  // 16 bytes are 16 tokens: windows of 7, 7 and 2, the final line feed included.
  const std::string text = "fifteen letters\n";
  const std::string path = WriteTemporaryFile("text", text);
  const CommandResult result = Run({"score", "--json", "--policy", "alpha@2", "--text-file", path});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.errors, IsEmpty());

  const std::vector<v1::ScoreRequest> scores = server_.generation.scores();
  ASSERT_EQ(scores.size(), 3u);
  std::string sent;
  for (const v1::ScoreRequest& score : scores) {
    const auto& ids = score.prompt().token_ids().ids();
    EXPECT_LE(ids.size(), FakeGeneration::kContext);
    EXPECT_EQ(ids[0], 1);
    for (int i = 1; i < ids.size(); ++i) sent.push_back(static_cast<char>(ids[i] - 3));
    EXPECT_THAT(score.mask().policies(), ElementsAre("alpha@2"));
  }
  EXPECT_EQ(sent, text);

  double nll = 0;
  for (char c : text) nll += (c + 3) / 128.0;
  const json object = json::parse(result.output);
  EXPECT_EQ(object["tokens"], 16);
  EXPECT_EQ(object["mean_nll"].get<double>(), nll / 16);
  EXPECT_EQ(object["perplexity"].get<double>(), std::exp(nll / 16));
  EXPECT_EQ(object["windows"], 3);
  EXPECT_EQ(object["context_tokens"], 8);
  EXPECT_EQ(object["usage"]["prompt_tokens"], 19);
  EXPECT_EQ(object["policies"][0]["name"], "alpha");
  EXPECT_EQ(object["mask_digest"], "sha256:mask-alpha");
  EXPECT_EQ(object["model_fingerprint"], "sha256:f00d");
  EXPECT_EQ(object["removed_weight_share"].get<double>(), 0.25 * 16 / 19);
}

TEST_F(QueriesTest, ScoreReadsStandardInputAndPrintsForPeople) {
  CommandOptions options;
  options.input = "abc";
  const CommandResult result = Run({"score", "--text-file", "-"}, options);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output,
              HasSubstr("tokens      3\nmean_nll    0.789062\nperplexity  2.2013\n"));
}

TEST_F(QueriesTest, ScoreTellsProgressOnATerminalOnly) {
  CommandOptions options;
  options.input = "more than one window";
  EXPECT_THAT(Run({"score", "--text-file", "-"}, options).errors, IsEmpty());
  options.errors_are_terminal = true;
  EXPECT_THAT(Run({"score", "--text-file", "-"}, options).errors, HasSubstr("window 2 of 3"));
}

TEST_F(QueriesTest, ScoreRefusesWhatItCannotScore) {
  const auto error = [&](const std::string& content) {
    const CommandResult result = Run({"score", "--text-file", WriteTemporaryFile("text", content)});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.output, IsEmpty());
    return result.errors;
  };
  EXPECT_THAT(error(""), HasSubstr("empty"));
  EXPECT_THAT(error("ab\xC3"), HasSubstr("not UTF-8 at byte 2"));
  EXPECT_THAT(error(std::string(65, 'a')), HasSubstr("65 bytes, the server's limit is 64"));
  EXPECT_EQ(Run({"score", "--text-file", testing::TempDir() + "monetctl-no-such-file"}).exit_code,
            2);
  EXPECT_EQ(Run({"score", "--text-file", "/"}).exit_code, 2);
  EXPECT_EQ(Run({"score"}).exit_code, 2);
  EXPECT_TRUE(server_.generation.scores().empty());
}

TEST_F(QueriesTest, ScoreStopsWhenThePoliciesChange) {
  server_.generation.policies_change = true;
  CommandOptions options;
  options.input = "more than one window";
  const CommandResult result = Run({"score", "--json", "--text-file", "-"}, options);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, IsEmpty());
  EXPECT_THAT(result.errors, HasSubstr("monetctl: ABORTED: "));
}

TEST_F(QueriesTest, PoliciesFollowsThePages) {
  const CommandResult result = Run({"policies", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const json list = json::parse(result.output)["policies"];
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[1]["name"], "alpha");
  EXPECT_EQ(list[1]["version"], 2);
  EXPECT_EQ(list[1]["description"], "Removes alpha.");
  EXPECT_EQ(list[1]["model_fingerprint"], "sha256:f00d");
  EXPECT_EQ(list[1]["semantics"], "zero");
  EXPECT_EQ(list[1]["experts_removed"], 10);
  EXPECT_EQ(list[1]["experts_total"], 512);
  EXPECT_EQ(list[1]["mask_digest"], "sha256:mask-alpha");
  EXPECT_EQ(list[1]["experts_removed_by_router"], json::parse("[9, 1]"));
  EXPECT_EQ(list[2]["name"], "beta");
}

TEST_F(QueriesTest, PoliciesPrintsATable) {
  const CommandResult result = Run({"policies"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output, HasSubstr("NAME   VERSION"));
  EXPECT_THAT(result.output,
              HasSubstr("alpha        2        10 (1.95%)  sha256:aaaaaaaaaaaa  Rem"));
}

TEST_F(QueriesTest, PoliciesThatNeverEndAreAnError) {
  server_.policies.endless = true;
  const CommandResult result = Run({"policies"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr("no end"));
}

TEST_F(QueriesTest, ModelIsDescribed) {
  const CommandResult result = Run({"model", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const json model = json::parse(result.output);
  EXPECT_EQ(model["name"], "fake");
  EXPECT_EQ(model["fingerprint"], "sha256:f00d");
  EXPECT_EQ(model["context_tokens"], 8);
  EXPECT_EQ(model["decomposition"], "horizontal");
  EXPECT_EQ(model["routers"][0]["layer_count"], 2);
  EXPECT_EQ(model["limits"]["max_prompt_bytes"], 64);
  EXPECT_EQ(model["limits"]["max_completions"], 3);
  EXPECT_EQ(model["limits"]["max_chat_messages"], 4);
  EXPECT_EQ(model["chat_template"], "llama2");
  EXPECT_EQ(model["allowed_policies"][0]["name"], "alpha");
  EXPECT_EQ(model["mandatory_policies"], json::array());
  EXPECT_EQ(model["explicit_masks_allowed"], true);

  const CommandResult text = Run({"model"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_THAT(text.output, HasSubstr("256 a layer (16 x 16)"));
}

TEST_F(QueriesTest, DetokenizePrintsText) {
  EXPECT_EQ(Run({"detokenize", "1", "100", "101"}).output, "ab\n");
  EXPECT_EQ(Run({"detokenize", "100 101"}).output, "ab\n");
  EXPECT_EQ(json::parse(Run({"detokenize", "--json", "100"}).output),
            json::parse(R"({"text": "a"})"));
  for (const char* id : {"x", "1.5", "99999999999", "1,2"}) {
    EXPECT_EQ(Run({"detokenize", id}).exit_code, 2) << id;
  }
}

TEST_F(QueriesTest, TokenizePrintsIds) {
  EXPECT_EQ(Run({"tokenize", "ab"}).output, "1 100 101\n");
  EXPECT_EQ(Run({"tokenize", "--no-bos", "ab"}).output, "100 101\n");
  EXPECT_EQ(json::parse(Run({"tokenize", "--json", ""}).output),
            json::parse(R"({"token_ids": [1]})"));
}

}  // namespace
}  // namespace monet::cli
