// Routing over a real port: Explain, and return_routing of the calls that run the model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

using ::testing::HasSubstr;

constexpr char kPrompt[] = "def get_queryset(self):\n    ";
constexpr int32_t kRouters = 2;  // of the demo model
constexpr int32_t kHeads = 4;

struct Explanation {
  grpc::Status status;
  std::vector<v1::ExplainResponse> messages;
  std::vector<int32_t> token_ids;
  std::vector<v1::TokenActivation> activations;
  v1::ExplainResponse last;
  std::string mask_digest;  // of the initial metadata
};

class ExplainTest : public ::testing::Test {
 protected:
  ExplainTest()
      : client_(SharedServer().grpc_address()),
        expert_(v1::ExpertService::NewStub(client_.channel())) {}

  Explanation Explain(const v1::ExplainRequest& request) {
    grpc::ClientContext context;
    const auto reader = expert_->Explain(&context, request);
    Explanation all;
    v1::ExplainResponse message;
    while (reader->Read(&message)) {
      all.messages.push_back(message);
      all.token_ids.insert(all.token_ids.end(), message.token_ids().begin(),
                           message.token_ids().end());
      all.activations.insert(all.activations.end(), message.activations().begin(),
                             message.activations().end());
    }
    if (!all.messages.empty()) all.last = all.messages.back();
    all.status = reader->Finish();
    const auto& metadata = context.GetServerInitialMetadata();
    const auto digest = metadata.find("monet-mask-digest");
    if (digest != metadata.end()) {
      all.mask_digest = std::string(digest->second.data(), digest->second.size());
    }
    return all;
  }

  static v1::ExplainRequest Request(int32_t top_n, const std::string& policy = "") {
    v1::ExplainRequest request;
    request.mutable_prompt()->set_text(kPrompt);
    request.set_top_n(top_n);
    if (!policy.empty()) request.mutable_mask()->add_policies(policy);
    return request;
  }

  Client client_;
  std::unique_ptr<v1::ExpertService::Stub> expert_;
};

TEST_F(ExplainTest, IsAHeaderThenActivationsThenTheUsage) {
  v1::ExplainRequest request = Request(0);
  request.set_request_id("mine");
  const Explanation all = Explain(request);
  ASSERT_TRUE(all.status.ok()) << all.status.error_message();
  ASSERT_GE(all.messages.size(), 3u);
  const v1::ExplainResponse& first = all.messages.front();
  EXPECT_EQ(first.header().request_id(), "mine");
  EXPECT_EQ(first.header().model(), "demo");
  EXPECT_EQ(first.header().seed(), 0u);
  EXPECT_EQ(first.token_ids_size() + first.activations_size(), 0);
  EXPECT_EQ(all.mask_digest, first.header().mask().digest());
  EXPECT_EQ(all.last.activations_size(), 0);
  EXPECT_EQ(all.last.usage().prompt_tokens(), first.header().prompt_tokens());
  EXPECT_EQ(all.last.usage().completion_tokens(), 0);
  EXPECT_EQ(all.last.removed_weight_share(), 0);

  v1::TokenizeRequest text;
  text.set_text(kPrompt);
  v1::TokenizeResponse tokens;
  grpc::ClientContext context;
  ASSERT_TRUE(client_.generation().Tokenize(&context, text, &tokens).ok());
  EXPECT_EQ(all.token_ids,
            std::vector<int32_t>(tokens.token_ids().begin(), tokens.token_ids().end()));

  ASSERT_EQ(all.activations.size(), all.token_ids.size() * kRouters);
  for (size_t n = 0; n < all.activations.size(); ++n) {
    const v1::TokenActivation& activation = all.activations[n];
    EXPECT_EQ(activation.position(), static_cast<int32_t>(n / kRouters));
    EXPECT_EQ(activation.router(), static_cast<int32_t>(n % kRouters));
    EXPECT_EQ(activation.active_experts(), activation.experts_size());
    EXPECT_EQ(activation.removed_weight(), 0);
    double sum = 0;
    for (const v1::ExpertActivation& expert : activation.experts()) sum += expert.weight();
    EXPECT_NEAR(sum, kHeads, 1e-4);
  }
}

TEST_F(ExplainTest, TheListIsTheHeaviestInOrder) {
  const Explanation whole = Explain(Request(0));
  v1::ExplainRequest request = Request(5);
  request.set_min_weight(0.2);
  const Explanation cut = Explain(request);
  ASSERT_TRUE(whole.status.ok() && cut.status.ok());
  ASSERT_EQ(cut.activations.size(), whole.activations.size());
  int below = 0;
  for (size_t n = 0; n < cut.activations.size(); ++n) {
    const auto& all = whole.activations[n].experts();
    for (int e = 1; e < all.size(); ++e) {
      EXPECT_LT(std::tuple(-all[e - 1].weight(), all[e - 1].i(), all[e - 1].j()),
                std::tuple(-all[e].weight(), all[e].i(), all[e].j()));
    }
    v1::TokenActivation expected = whole.activations[n];
    int kept = 0;
    while (kept < std::min(5, all.size()) && all[kept].weight() >= 0.2) ++kept;
    below += kept < 5;
    expected.mutable_experts()->DeleteSubrange(kept, expected.experts_size() - kept);
    EXPECT_EQ(cut.activations[n].SerializeAsString(), expected.SerializeAsString());
  }
  EXPECT_GT(below, 0);
}

TEST_F(ExplainTest, APolicyMarksWhatItRemovesAndTheShareAgrees) {
  v1::GetPolicyResponse policy;
  ASSERT_TRUE(client_.GetPolicy("no-python", true, &policy).ok());
  const Explanation all = Explain(Request(0, "no-python"));
  ASSERT_TRUE(all.status.ok()) << all.status.error_message();
  EXPECT_EQ(all.messages.front().header().mask().policies(0).name(), "no-python");
  const std::string& bitmap = policy.bitmap();
  const size_t bytes = bitmap.size() / kRouters;
  double removed_weight = 0;
  for (const v1::TokenActivation& activation : all.activations) {
    double sum = 0;
    double removed = 0;
    for (const v1::ExpertActivation& expert : activation.experts()) {
      const size_t id = static_cast<size_t>(expert.i()) * 256 + static_cast<size_t>(expert.j());
      const auto byte =
          static_cast<uint8_t>(bitmap[static_cast<size_t>(activation.router()) * bytes + id / 8]);
      EXPECT_EQ(expert.removed(), ((byte >> (id % 8)) & 1) == 1);
      sum += expert.weight();
      if (expert.removed()) removed += expert.weight();
    }
    EXPECT_NEAR(sum, kHeads, 1e-4);  // the weights are those before the mask
    EXPECT_NEAR(activation.removed_weight(), removed, 1e-4);
    removed_weight += activation.removed_weight();
  }
  const double all_weight = static_cast<double>(all.activations.size()) * kHeads;
  EXPECT_GT(all.last.removed_weight_share(), 0.01);
  EXPECT_NEAR(all.last.removed_weight_share(), removed_weight / all_weight, 1e-5);
}

std::string Text(const google::protobuf::RepeatedPtrField<v1::TokenActivation>& routing) {
  std::string text;
  for (const v1::TokenActivation& activation : routing) text += activation.SerializeAsString();
  return text;
}

TEST_F(ExplainTest, ReturnRoutingTellsTheSame) {
  v1::GenerateRequest request = Greedy(kPrompt, 6);
  request.mutable_mask()->add_policies("no-python");
  request.mutable_return_routing()->set_top_n(7);
  request.set_n(2);
  v1::GenerateResponse whole;
  ASSERT_TRUE(client_.Generate(request, &whole).ok());
  const Explanation explained = Explain(Request(7, "no-python"));
  const auto prompt = static_cast<int32_t>(explained.token_ids.size());
  const auto& routing = whole.completions(0).routing();
  ASSERT_EQ(routing.size(), (prompt + 5) * kRouters);  // the last token is not run
  for (int32_t n = 0; n < prompt * kRouters; ++n) {
    EXPECT_EQ(routing[n].SerializeAsString(), explained.activations[n].SerializeAsString());
  }
  // The prompt's are with the first completion only; greedy, so the rest is equal.
  const auto& second = whole.completions(1).routing();
  ASSERT_EQ(second.size(), 5 * kRouters);
  for (int32_t n = 0; n < second.size(); ++n) {
    EXPECT_EQ(second[n].position(), prompt + n / kRouters);
    EXPECT_EQ(second[n].SerializeAsString(), routing[prompt * kRouters + n].SerializeAsString());
  }
  request.clear_n();
  const StreamResult stream = client_.Stream(request);
  ASSERT_TRUE(stream.status.ok());
  EXPECT_EQ(stream.completion.SerializeAsString(), whole.completions(0).SerializeAsString());

  v1::ScoreRequest score;
  *score.mutable_prompt() = request.prompt();
  *score.mutable_mask() = request.mask();
  *score.mutable_return_routing() = request.return_routing();
  v1::ScoreResponse scored;
  grpc::ClientContext context;
  ASSERT_TRUE(client_.generation().Score(&context, score, &scored).ok());
  ASSERT_EQ(scored.routing_size(), (prompt - 1) * kRouters);
  EXPECT_EQ(Text(scored.routing()), Text(routing).substr(0, Text(scored.routing()).size()));
}

// The whole context with every active expert, read slowly: many messages, none of them large.
TEST_F(ExplainTest, ALongTextComesInMessagesOfAMegabyte) {
  v1::ExplainRequest request;
  auto* ids = request.mutable_prompt()->mutable_token_ids()->mutable_ids();
  for (int32_t n = 0; n < 512; ++n) ids->Add(3 + (n * 37) % 4000);
  request.set_top_n(0);
  const Explanation all = Explain(request);
  ASSERT_TRUE(all.status.ok()) << all.status.error_message();
  EXPECT_EQ(all.token_ids, std::vector<int32_t>(ids->begin(), ids->end()));
  EXPECT_EQ(all.activations.size(), 512u * kRouters);
  for (const v1::ExplainResponse& message : all.messages) {
    EXPECT_LE(message.ByteSizeLong(), (1u << 20) + 8192);
  }
  EXPECT_EQ(all.last.usage().prompt_tokens(), 512);
  ids->Add(3);
  EXPECT_EQ(Explain(request).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ExplainTest, ACancelledExplanationEnds) {
  v1::ExplainRequest request = Request(0);
  for (int n = 0; n < 6; ++n) request.mutable_prompt()->mutable_text()->append(kPrompt);
  grpc::ClientContext context;
  const auto reader = expert_->Explain(&context, request);
  v1::ExplainResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ExplainTest, ModelsLimitsAreTold) {
  v1::GetModelResponse model;
  grpc::ClientContext context;
  ASSERT_TRUE(client_.generation().GetModel(&context, {}, &model).ok());
  EXPECT_EQ(model.limits().max_routing_top_n(), 256);
  EXPECT_EQ(model.limits().max_explain_top_n(), 8192);
  EXPECT_EQ(model.limits().max_routing_entries(), 1 << 18);
  EXPECT_EQ(model.experts_per_side(), 256);
  EXPECT_EQ(model.routing_heads(), kHeads);
  EXPECT_EQ(model.decomposition(), v1::DECOMPOSITION_VERTICAL);
  ASSERT_EQ(model.routers_size(), kRouters);
  EXPECT_EQ(model.routers(1).first_layer(), 2);
  EXPECT_EQ(model.routers(1).layer_count(), 2);
  EXPECT_EQ(model.mandatory_policies_size(), 0);
  EXPECT_EQ(model.allowed_policies_size(), 12);
}

TEST_F(ExplainTest, RefusesWithTheFieldsPath) {
  v1::ExplainRequest request = Request(8193);
  EXPECT_THAT(Explain(request).status.error_message(), HasSubstr("top_n is 8193, range 0 to 8192"));
  request = Request(1, "no-such");
  EXPECT_EQ(Explain(request).status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(Explain(request).messages.empty());
  v1::GenerateRequest generate = Greedy(kPrompt, 4);
  generate.mutable_return_routing()->set_top_n(257);
  v1::GenerateResponse response;
  EXPECT_THAT(client_.Generate(generate, &response).error_message(),
              HasSubstr("return_routing.top_n is 257, range 1 to 256"));
}

}  // namespace
}  // namespace monet::e2e
