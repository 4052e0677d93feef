// Masks over a real port: golden texts with and without policies, explicit experts, and many
// masks at once giving each request the bits that it has alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

struct GoldenText {
  std::string prompt;
  std::string policy;  // empty: none
  std::string text;    // prompt and completion
  std::vector<int32_t> ids;
};

std::vector<GoldenText> GoldenTexts() {
  std::ifstream file(MONET_SOURCE_DIR "/tests/data/demo/greedy.json");
  std::vector<GoldenText> texts;
  for (const auto& entry : nlohmann::json::parse(file)) {
    texts.push_back({entry["prompt"], entry["policy"].is_null() ? "" : std::string(entry["policy"]),
                     entry["text"], entry["ids"]});
  }
  return texts;
}

class MasksTest : public ::testing::Test {
 protected:
  MasksTest() : client_(SharedServer().grpc_address()) {}
  Client client_;
};

v1::GenerateRequest RequestFor(const GoldenText& golden) {
  v1::GenerateRequest request = Greedy(golden.prompt, static_cast<int32_t>(golden.ids.size()));
  if (!golden.policy.empty()) request.mutable_mask()->add_policies(golden.policy);
  request.mutable_logprob_options()->set_logprobs(true);
  return request;
}

TEST_F(MasksTest, GreedyTextsEqualTheGoldenOnes) {
  const std::vector<GoldenText> texts = GoldenTexts();
  ASSERT_GE(texts.size(), 24u);
  for (const GoldenText& golden : texts) {
    v1::GenerateResponse response;
    const grpc::Status status = client_.Generate(RequestFor(golden), &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    const auto& ids = response.completions(0).token_ids();
    EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), golden.ids)
        << golden.prompt << " with " << golden.policy;
    EXPECT_EQ(golden.prompt + response.completions(0).text(), golden.text);
    EXPECT_EQ(response.header().mask().policies_size(), golden.policy.empty() ? 0 : 1);
    EXPECT_EQ(response.finishes(0).removed_weight_share() > 0, !golden.policy.empty());
  }
}

// Prompts come in pairs: without and with the label's own policy.
TEST_F(MasksTest, PoliciesChangeTheText) {
  const std::vector<GoldenText> texts = GoldenTexts();
  for (size_t i = 0; i + 1 < texts.size(); i += 2) {
    ASSERT_EQ(texts[i].prompt, texts[i + 1].prompt);
    EXPECT_NE(texts[i].ids, texts[i + 1].ids);
  }
}

TEST_F(MasksTest, MixedMasksAtOnceEqualEachAlone) {
  std::vector<v1::GenerateRequest> requests;
  for (const GoldenText& golden : GoldenTexts()) requests.push_back(RequestFor(golden));
  std::vector<std::string> alone;
  for (const v1::GenerateRequest& request : requests) {
    const StreamResult result = client_.Stream(request);
    ASSERT_TRUE(result.status.ok());
    alone.push_back(result.completion.SerializeAsString());
  }
  std::vector<StreamResult> together(requests.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] { together[i] = client_.Stream(requests[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok()) << together[i].status.error_message();
    // Text, ids and log-probabilities, to the bit.
    EXPECT_EQ(together[i].completion.SerializeAsString(), alone[i]) << i;
  }
}

TEST_F(MasksTest, ExplicitExpertsAreThePolicyTheyCopy) {
  v1::GetPolicyResponse policy;
  ASSERT_TRUE(client_.GetPolicy("no-python", true, &policy).ok());
  ASSERT_EQ(policy.bitmap().size(), 2u * 8192);
  v1::GenerateRequest named = Greedy("def get_queryset(self):\n    ", 16);
  v1::GenerateRequest given = named;
  named.mutable_mask()->add_policies("no-python@1");
  v1::RouterExperts* first = given.mutable_mask()->add_experts();
  first->set_bitmap(policy.bitmap().substr(0, 8192));
  v1::RouterExperts* second = given.mutable_mask()->add_experts();
  second->set_router(1);
  for (int32_t expert = 0; expert < 65536; ++expert) {
    const auto byte = static_cast<uint8_t>(policy.bitmap()[8192 + static_cast<size_t>(expert) / 8]);
    if ((byte >> (expert % 8)) & 1) second->add_ids(expert);
  }
  v1::GenerateResponse by_name;
  v1::GenerateResponse by_expert;
  ASSERT_TRUE(client_.Generate(named, &by_name).ok());
  ASSERT_TRUE(client_.Generate(given, &by_expert).ok());
  EXPECT_EQ(by_name.header().mask().digest(), by_expert.header().mask().digest());
  EXPECT_EQ(by_name.header().mask().digest(), policy.policy().mask_digest());
  EXPECT_EQ(by_name.header().mask().experts_removed(), policy.policy().experts_removed());
  EXPECT_EQ(by_expert.header().mask().policies_size(), 0);
  EXPECT_EQ(by_name.completions(0).SerializeAsString(),
            by_expert.completions(0).SerializeAsString());
}

TEST_F(MasksTest, RowsAndColumnsUnite) {
  v1::GenerateRequest request = Greedy("x", 1);
  v1::RouterExperts* experts = request.mutable_mask()->add_experts();
  experts->add_rows(3);
  experts->add_columns(5);
  experts->add_ids(3 * 256 + 5);  // in both already
  v1::GenerateResponse response;
  ASSERT_TRUE(client_.Generate(request, &response).ok());
  EXPECT_EQ(response.header().mask().experts_removed(), 256 + 256 - 1);
  EXPECT_EQ(response.header().mask().experts_total(), 2 * 65536);
}

TEST_F(MasksTest, DigestIsInTheInitialMetadata) {
  v1::GenerateStreamRequest request;
  *request.mutable_request() = Greedy("x", 2);
  request.mutable_request()->mutable_mask()->add_policies("no-c");
  grpc::ClientContext context;
  const auto reader = client_.generation().GenerateStream(&context, request);
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  const auto& metadata = context.GetServerInitialMetadata();
  const auto found = metadata.find("monet-mask-digest");
  ASSERT_NE(found, metadata.end());
  EXPECT_EQ(std::string(found->second.data(), found->second.size()),
            message.header().mask().digest());
  while (reader->Read(&message)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(MasksTest, UnknownPoliciesRefuseTheRequest) {
  v1::GenerateRequest request = Greedy("x", 1);
  request.mutable_mask()->add_policies("no-c");
  request.mutable_mask()->add_policies("no-such-thing");
  v1::GenerateResponse response;
  EXPECT_EQ(client_.Generate(request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  request.mutable_mask()->set_policies(1, "no-c@99");
  EXPECT_EQ(client_.Generate(request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  const StreamResult stream = client_.Stream(request);
  EXPECT_EQ(stream.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(stream.messages.empty());
}

TEST_F(MasksTest, ListsPoliciesInPages) {
  std::vector<std::string> names;
  v1::ListPoliciesRequest request;
  request.set_page_size(5);
  int pages = 0;
  do {
    grpc::ClientContext context;
    v1::ListPoliciesResponse response;
    ASSERT_TRUE(client_.policy().ListPolicies(&context, request, &response).ok());
    for (const v1::Policy& policy : response.policies()) {
      names.push_back(policy.name());
      EXPECT_EQ(policy.experts_removed_by_router(0) + policy.experts_removed_by_router(1),
                policy.experts_removed());
    }
    request.set_page_token(response.next_page_token());
    ASSERT_LE(++pages, 3);
  } while (!request.page_token().empty());
  EXPECT_EQ(names.size(), 12u);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
}

}  // namespace
}  // namespace monet::e2e
