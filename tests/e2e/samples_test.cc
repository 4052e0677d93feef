// Several completions of one request: different, repeatable, admitted all or none, ended together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

using ::testing::HasSubstr;

v1::GenerateRequest Samples(int32_t n, int32_t max_tokens) {
  v1::GenerateRequest request = Greedy("def get_queryset(self):\n    ", max_tokens);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(42);
  request.mutable_logprob_options()->set_logprobs(true);
  request.set_n(n);
  return request;
}

std::string BytesOf(v1::Completion completion) {
  completion.set_index(0);
  return completion.SerializeAsString();
}

class SamplesTest : public ::testing::Test {
 protected:
  SamplesTest() : client_(SharedServer().grpc_address()) {}
  Client client_;
};

TEST_F(SamplesTest, FourOfOneSeedAreDifferentAndRepeatable) {
  v1::GenerateResponse four;
  ASSERT_TRUE(client_.Generate(Samples(4, 16), &four).ok());
  ASSERT_EQ(four.completions_size(), 4);
  ASSERT_EQ(four.finishes_size(), 4);
  std::set<std::string> texts;
  for (int n = 0; n < 4; ++n) {
    EXPECT_EQ(four.completions(n).index(), n);
    EXPECT_EQ(four.finishes(n).index(), n);
    EXPECT_EQ(four.finishes(n).usage().completion_tokens(), four.completions(n).token_ids_size());
    EXPECT_EQ(four.finishes(n).usage().prompt_tokens(), four.header().prompt_tokens());
    texts.insert(four.completions(n).text());
  }
  EXPECT_EQ(texts.size(), 4u);
  v1::GenerateResponse again;
  ASSERT_TRUE(client_.Generate(Samples(4, 16), &again).ok());
  v1::GenerateResponse one;
  ASSERT_TRUE(client_.Generate(Samples(1, 16), &one).ok());
  for (int n = 0; n < 4; ++n) {
    EXPECT_EQ(BytesOf(again.completions(n)), BytesOf(four.completions(n)));
  }
  EXPECT_EQ(BytesOf(one.completions(0)), BytesOf(four.completions(0)));
}

TEST_F(SamplesTest, AStreamBringsTheSameByIndex) {
  v1::GenerateRequest request = Samples(3, 12);
  request.set_echo(true);
  request.mutable_logprob_options()->set_prompt_logprobs(true);
  v1::GenerateResponse whole;
  ASSERT_TRUE(client_.Generate(request, &whole).ok());
  const StreamResult stream = client_.Stream(request);
  ASSERT_TRUE(stream.status.ok()) << stream.status.error_message();
  std::map<int32_t, v1::Completion> completions;
  std::map<int32_t, v1::Finish> finishes;
  for (const v1::GenerateStreamResponse& message : stream.messages) {
    if (message.has_finish()) {
      EXPECT_TRUE(finishes.emplace(message.finish().index(), message.finish()).second);
    } else if (message.has_delta()) {
      EXPECT_FALSE(finishes.contains(message.delta().index())) << "a delta after the finish";
      v1::Completion& completion = completions[message.delta().index()];
      completion.set_text(completion.text() + message.delta().text());
      completion.mutable_token_ids()->MergeFrom(message.delta().token_ids());
      completion.mutable_logprobs()->MergeFrom(message.delta().logprobs());
    }
  }
  ASSERT_EQ(completions.size(), 3u);
  ASSERT_EQ(finishes.size(), 3u);
  for (int n = 0; n < 3; ++n) {
    EXPECT_EQ(BytesOf(completions[n]), BytesOf(whole.completions(n)));
    EXPECT_EQ(finishes[n].SerializeAsString(), whole.finishes(n).SerializeAsString());
  }
  // Once, whatever n is.
  EXPECT_EQ(whole.prompt_logprobs().token_ids_size(), whole.header().prompt_tokens() - 1);
  EXPECT_EQ(stream.prompt_logprobs.SerializeAsString(),
            whole.prompt_logprobs().SerializeAsString());
}

TEST_F(SamplesTest, CancelAndDeadlineFreeAllOfThem) {
  const std::string metrics = SharedServer().metrics_address();
  const auto free = [&] {
    return MetricSum(metrics, "monet_num_requests_running") == 0 &&
           MetricSum(metrics, "monet_kv_cache_usage_perc") == 0;
  };
  {
    v1::GenerateRequest request = Samples(8, 400);
    request.mutable_stopping()->set_ignore_eos(true);
    OpenStream stream(&client_, request);
    ASSERT_TRUE(stream.ReadFirstToken());
    EXPECT_GE(MetricSum(metrics, "monet_num_requests_running"), 8);
    stream.Cancel();
    EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually(free));
  v1::GenerateRequest request = Samples(8, 400);
  request.mutable_stopping()->set_ignore_eos(true);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  v1::GenerateResponse response;
  EXPECT_EQ(client_.generation().Generate(&context, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually(free));
}

TEST(SamplesQueue, AllAreTakenOrNone) {
  ServerProcess server(ServerProcess::DemoArgs({"--max-running", "1", "--max-queue", "3"}));
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  v1::GenerateResponse response;
  const grpc::Status refused = client.Generate(Samples(4, 4), &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("n = 4: max_queue is 3"));
  EXPECT_EQ(response.completions_size(), 0);
  EXPECT_EQ(MetricSum(server.metrics_address(), "monet_num_requests_waiting"), 0);
  ASSERT_TRUE(client.Generate(Samples(3, 4), &response).ok());
  EXPECT_EQ(response.completions_size(), 3);
}

}  // namespace
}  // namespace monet::e2e
