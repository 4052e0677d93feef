// One request at a time over a real port: unary, stream, cancel, deadline, stops, seeds, scores.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

using ::testing::HasSubstr;

constexpr char kPrompt[] = "def get_queryset(self):\n    ";

class GenerationTest : public ::testing::Test {
 protected:
  GenerationTest() : client_(SharedServer().grpc_address()) {}
  Client client_;
};

TEST_F(GenerationTest, StreamIsHeaderDeltasFinishAndEqualsUnary) {
  v1::GenerateRequest request = Greedy(kPrompt, 24);
  request.set_request_id("mine");
  request.mutable_logprob_options()->set_logprobs(true);
  v1::GenerateResponse unary;
  ASSERT_TRUE(client_.Generate(request, &unary).ok());
  const StreamResult stream = client_.Stream(request);
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();

  ASSERT_GE(stream.messages.size(), 3u);
  EXPECT_TRUE(stream.messages.front().has_header());
  EXPECT_TRUE(stream.messages.back().has_finish());
  for (size_t i = 1; i + 1 < stream.messages.size(); ++i) {
    EXPECT_TRUE(stream.messages[i].has_delta());
  }
  const v1::Completion& whole = unary.completions(0);
  EXPECT_EQ(stream.completion.text(), whole.text());
  EXPECT_EQ(stream.completion.SerializeAsString(),
            whole.SerializeAsString());  // log-probabilities too
  EXPECT_EQ(whole.token_ids_size(), 24);
  EXPECT_EQ(whole.logprobs_size(), 24);
  EXPECT_EQ(unary.finishes(0).finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(unary.finishes(0).usage().completion_tokens(), 24);
  EXPECT_EQ(unary.finishes(0).usage().prompt_tokens(), unary.header().prompt_tokens());
  EXPECT_EQ(unary.header().request_id(), "mine");
  EXPECT_EQ(unary.header().model(), "demo");
  EXPECT_THAT(unary.header().model_fingerprint(), HasSubstr("sha256:"));
  EXPECT_THAT(unary.header().system_fingerprint(), HasSubstr("/cpu/"));
}

TEST_F(GenerationTest, ReturnsAlternativesThePromptsLogprobsAndThePrompt) {
  v1::GenerateRequest request = Greedy(kPrompt, 8);
  v1::GenerateResponse plain;
  ASSERT_TRUE(client_.Generate(request, &plain).ok());
  v1::LogprobOptions* options = request.mutable_logprob_options();
  options->set_logprobs(true);
  options->set_prompt_logprobs(true);
  options->set_top_logprobs(3);
  request.set_echo(true);
  v1::GenerateResponse whole;
  ASSERT_TRUE(client_.Generate(request, &whole).ok());
  const v1::Completion& completion = whole.completions(0);
  EXPECT_EQ(completion.text(), kPrompt + plain.completions(0).text());
  ASSERT_EQ(completion.top_logprobs_size(), 8);
  for (int n = 0; n < 8; ++n) {  // greedy: the first alternative is the token
    ASSERT_EQ(completion.top_logprobs(n).token_ids_size(), 3);
    EXPECT_EQ(completion.top_logprobs(n).token_ids(0), completion.token_ids(n));
    EXPECT_EQ(completion.top_logprobs(n).logprobs(0), completion.logprobs(n));
    EXPECT_GE(completion.top_logprobs(n).logprobs(0), completion.top_logprobs(n).logprobs(1));
  }

  v1::ScoreRequest score;
  *score.mutable_prompt() = request.prompt();
  v1::ScoreResponse scored;
  grpc::ClientContext context;
  ASSERT_TRUE(client_.generation().Score(&context, score, &scored).ok());
  const v1::PromptLogprobs& prompt = whole.prompt_logprobs();
  ASSERT_EQ(prompt.token_ids_size(), scored.token_ids_size());
  EXPECT_EQ(prompt.top_logprobs_size(), scored.token_ids_size());
  for (int n = 0; n < scored.token_ids_size(); ++n) {
    EXPECT_EQ(prompt.token_ids(n), scored.token_ids(n));
    EXPECT_EQ(prompt.logprobs(n), scored.logprobs(n));
  }

  const StreamResult stream = client_.Stream(request);
  ASSERT_TRUE(stream.status.ok());
  EXPECT_EQ(stream.completion.SerializeAsString(), completion.SerializeAsString());
  EXPECT_EQ(stream.prompt_logprobs.SerializeAsString(), prompt.SerializeAsString());
  EXPECT_EQ(stream.messages[1].delta().text(), kPrompt);

  // Token ids are echoed as Detokenize tells them.
  request.mutable_prompt()->mutable_token_ids()->mutable_ids()->Add(scored.token_ids().begin(),
                                                                    scored.token_ids().end());
  ASSERT_TRUE(client_.Generate(request, &whole).ok());
  EXPECT_THAT(whole.completions(0).text(), ::testing::StartsWith(kPrompt));
}

TEST_F(GenerationTest, SeedsRepeat) {
  v1::GenerateRequest request = Greedy(kPrompt, 16);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(42);
  v1::GenerateResponse first;
  v1::GenerateResponse second;
  v1::GenerateResponse other;
  ASSERT_TRUE(client_.Generate(request, &first).ok());
  ASSERT_TRUE(client_.Generate(request, &second).ok());
  EXPECT_EQ(first.header().seed(), 42u);
  EXPECT_EQ(first.completions(0).SerializeAsString(), second.completions(0).SerializeAsString());
  request.mutable_sampling()->set_seed(43);
  ASSERT_TRUE(client_.Generate(request, &other).ok());
  EXPECT_NE(first.completions(0).text(), other.completions(0).text());

  request.mutable_sampling()->clear_seed();
  ASSERT_TRUE(client_.Generate(request, &first).ok());
  request.mutable_sampling()->set_seed(first.header().seed());  // the drawn one
  ASSERT_TRUE(client_.Generate(request, &second).ok());
  EXPECT_EQ(first.completions(0).text(), second.completions(0).text());
}

TEST_F(GenerationTest, StopsAcrossTokenBoundaries) {
  v1::GenerateRequest request = Greedy(kPrompt, 24);
  v1::GenerateResponse whole;
  ASSERT_TRUE(client_.Generate(request, &whole).ok());
  const std::string text = whole.completions(0).text();
  // Any six characters: with tokens of one to a few characters they span at least two.
  const std::string stop = text.substr(text.size() / 2, 6);
  const std::string before = text.substr(0, text.find(stop));
  request.mutable_stopping()->add_stop("never in the text");
  request.mutable_stopping()->add_stop(stop);
  v1::GenerateResponse unary;
  ASSERT_TRUE(client_.Generate(request, &unary).ok());
  EXPECT_EQ(unary.completions(0).text(), before);
  EXPECT_EQ(unary.finishes(0).finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(unary.finishes(0).stop_text(), stop);
  EXPECT_LT(unary.completions(0).token_ids_size(), 24);
  const StreamResult stream = client_.Stream(request);
  EXPECT_EQ(stream.completion.text(), before);
  EXPECT_EQ(stream.finish.stop_text(), stop);
}

TEST_F(GenerationTest, StopsAtATokenId) {
  v1::GenerateRequest request = Greedy(kPrompt, 24);
  v1::GenerateResponse whole;
  ASSERT_TRUE(client_.Generate(request, &whole).ok());
  const int32_t id = whole.completions(0).token_ids(5);
  request.mutable_stopping()->add_stop_token_ids(id);
  v1::GenerateResponse unary;
  ASSERT_TRUE(client_.Generate(request, &unary).ok());
  EXPECT_EQ(unary.finishes(0).finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(unary.finishes(0).stop_token_id(), id);
  EXPECT_LE(unary.completions(0).token_ids_size(), 6);
}

TEST_F(GenerationTest, CancelMidStreamFreesTheEngine) {
  const std::string metrics = SharedServer().metrics_address();
  const double before = MetricSum(metrics, "monet_generation_tokens_total");
  {
    OpenStream stream(&client_, Greedy(kPrompt, kManyTokens));
    ASSERT_TRUE(stream.ReadFirstToken());
    EXPECT_GT(MetricSum(metrics, "monet_kv_cache_usage_perc"), 0);
    stream.Cancel();
    v1::Finish finish;
    EXPECT_EQ(stream.ReadAll(&finish).error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] {
    return MetricSum(metrics, "monet_num_requests_running") == 0 &&
           MetricSum(metrics, "monet_kv_cache_usage_perc") == 0;
  }));
  EXPECT_LT(MetricSum(metrics, "monet_generation_tokens_total") - before, kManyTokens);
}

TEST_F(GenerationTest, DeadlineIsDeadlineExceededNeverLength) {
  const std::string metrics = SharedServer().metrics_address();
  const auto exceeded = [&] {
    double sum = 0;
    for (const auto& [name, value] : Scrape(metrics)) {
      if (name.find("code=\"DEADLINE_EXCEEDED\"") != std::string::npos) sum += value;
    }
    return sum;
  };
  const double before = exceeded();
  const auto deadline = std::chrono::system_clock::now() + std::chrono::milliseconds(60);
  grpc::ClientContext context;
  context.set_deadline(deadline);
  v1::GenerateResponse response;
  const grpc::Status status =
      client_.generation().Generate(&context, Greedy(kPrompt, kManyTokens), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] { return exceeded() > before; })) << "the server saw no deadline";
  EXPECT_TRUE(Eventually([&] { return MetricSum(metrics, "monet_num_requests_running") == 0; }));
}

TEST_F(GenerationTest, ScoresWhatItGenerated) {
  v1::GenerateRequest request = Greedy(kPrompt, 12);
  request.mutable_logprob_options()->set_logprobs(true);
  v1::GenerateResponse generated;
  ASSERT_TRUE(client_.Generate(request, &generated).ok());
  grpc::ClientContext tokenize_context;
  v1::TokenizeRequest tokenize;
  tokenize.set_text(kPrompt);
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(client_.generation().Tokenize(&tokenize_context, tokenize, &tokens).ok());
  ASSERT_EQ(tokens.token_ids_size(), generated.header().prompt_tokens());
  EXPECT_EQ(tokens.token_ids(0), 1);  // <s>

  v1::ScoreRequest score;
  *score.mutable_prompt()->mutable_token_ids()->mutable_ids() = tokens.token_ids();
  score.mutable_prompt()->mutable_token_ids()->mutable_ids()->MergeFrom(
      generated.completions(0).token_ids());
  grpc::ClientContext context;
  v1::ScoreResponse scored;
  const grpc::Status status = client_.generation().Score(&context, score, &scored);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const int prompt = tokens.token_ids_size();
  ASSERT_EQ(scored.logprobs_size(), prompt - 1 + 12);
  double total = 0;
  for (float logprob : scored.logprobs()) total += logprob;
  EXPECT_DOUBLE_EQ(scored.total_logprob(), total);
  // A row's bits do not depend on how it was chunked: scoring repeats decoding exactly.
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(scored.logprobs(prompt - 1 + i), generated.completions(0).logprobs(i)) << i;
  }
}

TEST_F(GenerationTest, DetokenizesAndDescribesTheModel) {
  grpc::ClientContext tokenize_context;
  v1::TokenizeRequest tokenize;
  tokenize.set_text("Grüße, Welt");
  tokenize.set_add_bos(false);
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(client_.generation().Tokenize(&tokenize_context, tokenize, &tokens).ok());
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  *request.mutable_token_ids() = tokens.token_ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(client_.generation().Detokenize(&context, request, &text).ok());
  EXPECT_EQ(text.text(), tokenize.text());

  grpc::ClientContext model_context;
  v1::GetModelResponse model;
  ASSERT_TRUE(client_.generation().GetModel(&model_context, {}, &model).ok());
  EXPECT_EQ(model.name(), "demo");
  EXPECT_EQ(model.context_tokens(), 512);
  EXPECT_EQ(model.experts_per_side(), 256);
  ASSERT_EQ(model.routers_size(), 2);
  EXPECT_EQ(model.routers(1).first_layer(), 2);
  EXPECT_EQ(model.decomposition(), v1::DECOMPOSITION_VERTICAL);
  EXPECT_TRUE(model.explicit_masks_allowed());
  EXPECT_EQ(model.allowed_policies_size(), 12);
  EXPECT_EQ(model.mandatory_policies_size(), 0);
}

TEST_F(GenerationTest, PromptAndMaxTokensFitTheContext) {
  v1::GenerateResponse response;
  v1::GenerateRequest request = Greedy("x", 512);
  const grpc::Status status = client_.Generate(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("stopping.max_tokens 512"));
  EXPECT_THAT(status.error_message(), HasSubstr("limit 512"));
}

}  // namespace
}  // namespace monet::e2e
