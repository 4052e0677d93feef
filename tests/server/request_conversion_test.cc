// Every bad value of a request is refused with its field's path and its limit, and what is good
// arrives unchanged.
#include "server/request_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "tests/server/demo_tokenizer.h"

namespace monet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kDenormal = std::numeric_limits<double>::denorm_min();
constexpr int32_t kHuge = std::numeric_limits<int32_t>::max();

// R = 2, E = 5: 25 experts, 4 bytes a router with 7 padding bits.
ServedShape TestShape() { return {"demo", MaskShape{2, 5}, 100, 32}; }

v1::GenerateRequest GoodRequest() {
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("hello");
  return request;
}

struct BadCase {
  const char* message;  // expected within the error
  std::function<void(v1::GenerateRequest*)> edit;
};

void ExpectRefused(const std::vector<BadCase>& cases) {
  for (const BadCase& bad : cases) {
    v1::GenerateRequest request = GoodRequest();
    bad.edit(&request);
    const auto input = ConvertGenerate(request, TestShape());
    ASSERT_FALSE(input.ok()) << bad.message;
    EXPECT_EQ(input.status().code(), absl::StatusCode::kInvalidArgument) << bad.message;
    EXPECT_THAT(Message(input.status()), HasSubstr(bad.message));
    EXPECT_NE(FieldOf(input.status()), "") << bad.message;
  }
}

using Request = v1::GenerateRequest;

TEST(ConvertGenerate, RefusesTextThatCannotFitTheContext) {
  ServedShape shape = TestShape();
  shape.max_text_bytes = 96;
  v1::GenerateRequest request = GoodRequest();
  request.mutable_prompt()->set_text(std::string(96, 'x'));
  EXPECT_TRUE(ConvertGenerate(request, shape).ok());
  request.mutable_prompt()->set_text(std::string(97, 'x'));
  const auto generate = ConvertGenerate(request, shape);
  EXPECT_EQ(generate.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(generate.status()),
            "prompt.text is 97 bytes, limit 96: more cannot fit the context of 32 tokens");
  v1::ScoreRequest score;
  *score.mutable_prompt() = request.prompt();
  EXPECT_EQ(Message(ConvertScore(score, shape).status()), Message(generate.status()));
}

TEST(ConvertGenerate, RefusesFieldsOfAMaskThatItDoesNotKnow) {
  const auto add_unknown = [](google::protobuf::Message* message) {
    message->GetReflection()->MutableUnknownFields(message)->AddVarint(3, 1);
  };
  ExpectRefused({
      {"mask has field number 3, which this version",
       [&](Request* r) { add_unknown(r->mutable_mask()); }},
      {"mask.experts has field number 3, which this version",
       [&](Request* r) { add_unknown(r->mutable_mask()->add_experts()); }},
  });
  v1::GenerateRequest request = GoodRequest();
  add_unknown(request.mutable_sampling());
  EXPECT_TRUE(ConvertGenerate(request, TestShape()).ok()) << "elsewhere they are ignored";
}

TEST(ConvertGenerate, RefusesBadNumbers) {
  const auto temperature = [](double value) {
    return [value](Request* r) { r->mutable_sampling()->set_temperature(value); };
  };
  const auto top_p = [](double value) {
    return [value](Request* r) { r->mutable_sampling()->set_top_p(value); };
  };
  const auto top_k = [](int32_t value) {
    return [value](Request* r) { r->mutable_sampling()->set_top_k(value); };
  };
  const auto max_tokens = [](int32_t value) {
    return [value](Request* r) { r->mutable_stopping()->set_max_tokens(value); };
  };
  ExpectRefused({
      {"sampling.temperature is nan, range 0", temperature(kNaN)},
      {"sampling.temperature is inf", temperature(kInfinity)},
      {"sampling.temperature is -inf", temperature(-kInfinity)},
      {"sampling.temperature is -0.1", temperature(-0.1)},
      {"sampling.temperature is 100.5, range 0, or 1e-06 to 100", temperature(100.5)},
      {"sampling.temperature is 5e-324", temperature(kDenormal)},
      {"sampling.temperature is 1e-07", temperature(1e-7)},
      {"sampling.top_p is nan", top_p(kNaN)},
      {"sampling.top_p is 0, range above 0 to 1", top_p(0)},
      {"sampling.top_p is 1.5", top_p(1.5)},
      {"sampling.top_p is -1", top_p(-1)},
      {"sampling.top_p is 5e-324", top_p(kDenormal)},
      {"sampling.top_k is -1, range 0 to 100", top_k(-1)},
      {"sampling.top_k is 101, range 0 to 100", top_k(101)},
      {"sampling.top_k is 2147483647", top_k(kHuge)},
      {"stopping.max_tokens is 0, range 1 to 32", max_tokens(0)},
      {"stopping.max_tokens is -5", max_tokens(-5)},
      {"stopping.max_tokens is 33, range 1 to 32", max_tokens(33)},
      {"stopping.max_tokens is 2147483647", max_tokens(kHuge)},
      {"n is 2147483647, range 1 to 16", [](Request* r) { r->set_n(kHuge); }},
      {"n is 17, range 1 to 16", [](Request* r) { r->set_n(17); }},
      {"n is -1", [](Request* r) { r->set_n(-1); }},
      {"n is 0", [](Request* r) { r->set_n(0); }},
      {"priority is 10, range 0 to 9", [](Request* r) { r->set_priority(10); }},
      {"priority is -1, range 0 to 9", [](Request* r) { r->set_priority(-1); }},
  });
}

TEST(ConvertGenerate, RefusesBadPenaltiesAndBiases) {
  const auto sampling = [](void (v1::SamplingParams::*set)(double), double value) {
    return [set, value](Request* r) { (r->mutable_sampling()->*set)(value); };
  };
  using S = v1::SamplingParams;
  for (double bad : {kNaN, kInfinity, -kInfinity, kDenormal, 2.5, -2.5, 1e300}) {
    ExpectRefused({
        {"sampling.min_p is ", sampling(&S::set_min_p, bad)},
        {"sampling.presence_penalty is ", sampling(&S::set_presence_penalty, bad)},
        {"sampling.frequency_penalty is ", sampling(&S::set_frequency_penalty, bad)},
        {"sampling.repetition_penalty is ", sampling(&S::set_repetition_penalty, bad)},
        {"sampling.logit_bias[3] is ",
         [bad](Request* r) { (*r->mutable_sampling()->mutable_logit_bias())[3] = bad * 50; }},
    });
  }
  const auto bias = [](int32_t id, double value) {
    return [id, value](Request* r) { (*r->mutable_sampling()->mutable_logit_bias())[id] = value; };
  };
  ExpectRefused({
      {"sampling.min_p is 1.5, range 0 to 1", sampling(&S::set_min_p, 1.5)},
      {"sampling.presence_penalty is 2.1, range -2 to 2", sampling(&S::set_presence_penalty, 2.1)},
      {"sampling.frequency_penalty is -2.1, range -2 to 2",
       sampling(&S::set_frequency_penalty, -2.1)},
      {"sampling.repetition_penalty is 0, range 1e-06 to 2",
       sampling(&S::set_repetition_penalty, 0)},
      {"sampling.logit_bias[99] is 100.5, range -100 to 100", bias(99, 100.5)},
      {"sampling.logit_bias has the token id 100, range 0 to 99", bias(100, 1)},
      {"sampling.logit_bias has the token id -1", bias(-1, 1)},
      {"sampling.logit_bias has the token id 2147483647", bias(kHuge, 1)},
      {"sampling.logit_bias has 1025 entries, limit 1024",
       [](Request* r) {
         for (int i = 0; i < 1025; ++i) (*r->mutable_sampling()->mutable_logit_bias())[i] = 1;
       }},
      {"stopping.min_tokens is -1, range 0 to 32",
       [](Request* r) { r->mutable_stopping()->set_min_tokens(-1); }},
      {"stopping.min_tokens is 2147483647",
       [](Request* r) { r->mutable_stopping()->set_min_tokens(kHuge); }},
  });
}

TEST(ConvertGenerate, RefusesBadLogprobOptions) {
  const auto top = [](int32_t count) {
    return [count](Request* r) {
      r->mutable_logprob_options()->set_logprobs(true);
      r->mutable_logprob_options()->set_top_logprobs(count);
    };
  };
  ExpectRefused({
      {"logprob_options.top_logprobs is 21, range 0 to 20", top(21)},
      {"logprob_options.top_logprobs is -1", top(-1)},
      {"logprob_options.top_logprobs is 2147483647", top(kHuge)},
      {"logprob_options.top_logprobs needs logprobs or prompt_logprobs",
       [](Request* r) { r->mutable_logprob_options()->set_top_logprobs(1); }},
  });
}

TEST(ConvertGenerate, RefusesBadPromptsAndNames) {
  const auto ids = [](std::vector<int32_t> values) {
    return [values](Request* r) {
      r->mutable_prompt()->mutable_token_ids()->mutable_ids()->Add(values.begin(), values.end());
    };
  };
  ExpectRefused({
      {"prompt is required", [](Request* r) { r->clear_prompt(); }},
      {"prompt.text is 1048577 bytes, limit 1048576",
       [](Request* r) {
         r->mutable_prompt()->set_text(std::string(limits::kMaxPromptBytes + 1, 'a'));
       }},
      {"prompt.text is not valid UTF-8",
       [](Request* r) { r->mutable_prompt()->set_text("\xff\xfe"); }},
      {"prompt.token_ids has 0 ids, range 1 to 32",
       [](Request* r) { r->mutable_prompt()->mutable_token_ids(); }},
      {"prompt.token_ids has 33 ids", ids(std::vector<int32_t>(33, 1))},
      {"prompt.token_ids.ids[1] is 100, range 0 to 99", ids({1, 100})},
      {"prompt.token_ids.ids[0] is -1", ids({-1})},
      {"prompt.token_ids.ids[2] is 2147483647", ids({1, 2, kHuge})},
      {"request_id is 0 bytes, range 1 to 128", [](Request* r) { r->set_request_id(""); }},
      {"request_id is 129 bytes", [](Request* r) { r->set_request_id(std::string(129, 'x')); }},
      {"request_id must be visible ASCII", [](Request* r) { r->set_request_id("a\nb"); }},
      {"model is 5000 bytes, limit 128", [](Request* r) { r->set_model(std::string(5000, 'm')); }},
  });
  v1::GenerateRequest request = GoodRequest();
  request.set_model("other\n");
  const auto input = ConvertGenerate(request, TestShape());
  EXPECT_EQ(input.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(input.status()), HasSubstr("\"other?\" is not served here; \"demo\" is"));
}

TEST(ConvertGenerate, RefusesBadStops) {
  ExpectRefused({
      {"stopping.stop has 17 entries, limit 16",
       [](Request* r) {
         for (int i = 0; i < 17; ++i) r->mutable_stopping()->add_stop("x");
       }},
      {"stopping.stop[1] is empty",
       [](Request* r) {
         r->mutable_stopping()->add_stop("x");
         r->mutable_stopping()->add_stop("");
       }},
      {"stopping.stop[3] is 300 bytes, limit 256",
       [](Request* r) {
         for (int i = 0; i < 3; ++i) r->mutable_stopping()->add_stop("x");
         r->mutable_stopping()->add_stop(std::string(300, 'x'));
       }},
      {"stopping.stop[0] is not valid UTF-8",
       [](Request* r) { r->mutable_stopping()->add_stop("\xc3"); }},
      {"stopping.stop_token_ids has 65 entries, limit 64",
       [](Request* r) {
         for (int i = 0; i < 65; ++i) r->mutable_stopping()->add_stop_token_ids(1);
       }},
      {"stopping.stop_token_ids[0] is 100, range 0 to 99",
       [](Request* r) { r->mutable_stopping()->add_stop_token_ids(100); }},
      {"stopping.stop_token_ids[0] is -2",
       [](Request* r) { r->mutable_stopping()->add_stop_token_ids(-2); }},
  });
}

TEST(ConvertGenerate, RefusesBadMasks) {
  const auto experts = [](std::function<void(v1::RouterExperts*)> edit) {
    return [edit](Request* r) {
      r->mutable_mask()->add_experts();
      edit(r->mutable_mask()->add_experts());
    };
  };
  const auto policy = [](std::string name) {
    return [name](Request* r) { r->mutable_mask()->add_policies(name); };
  };
  ExpectRefused({
      {"mask.policies has 33 entries, limit 32",
       [](Request* r) {
         for (int i = 0; i < 33; ++i) r->mutable_mask()->add_policies("a");
       }},
      {"mask.policies[0] is 0 bytes", policy("")},
      {"mask.policies[0] is 1000000 bytes", policy(std::string(1000000, 'a'))},
      {"mask.policies[0] is \"../etc/passwd\"", policy("../etc/passwd")},
      {"mask.policies[0] is \"http://x\"", policy("http://x")},
      {"mask.policies[0] is \"@1\"", policy("@1")},
      {"mask.experts has 1025 entries, limit 1024",
       [](Request* r) {
         for (int i = 0; i < 1025; ++i) r->mutable_mask()->add_experts();
       }},
      {"mask.experts[1].router is 2, range 0 to 1", experts([](auto* e) { e->set_router(2); })},
      {"mask.experts[1].router is -1", experts([](auto* e) { e->set_router(-1); })},
      {"mask.experts[1].ids[0] is 25, range 0 to 24", experts([](auto* e) { e->add_ids(25); })},
      {"mask.experts[1].ids[0] is -1", experts([](auto* e) { e->add_ids(-1); })},
      {"mask.experts[1].ids[0] is 9223372036854775807",
       experts([](auto* e) { e->add_ids(std::numeric_limits<int64_t>::max()); })},
      {"mask.experts[1].rows[1] is 5, range 0 to 4", experts([](auto* e) {
         e->add_rows(4);
         e->add_rows(5);
       })},
      {"mask.experts[1].columns[0] is -1", experts([](auto* e) { e->add_columns(-1); })},
      {"mask.experts[1].bitmap is 3 bytes, expected 4",
       experts([](auto* e) { e->set_bitmap(std::string(3, '\0')); })},
      {"mask.experts[1].bitmap is 5 bytes, expected 4",
       experts([](auto* e) { e->set_bitmap(std::string(5, '\0')); })},
      {"mask.experts[1].bitmap has padding bits set after expert 24",
       experts([](auto* e) { e->set_bitmap(std::string("\0\0\0\x02", 4)); })},
      {"mask.experts names 1048577 ids, rows and columns, limit 1048576", experts([](auto* e) {
         e->mutable_ids()->Resize(static_cast<int>(limits::kMaxExplicitExperts), 0);
         e->add_rows(0);
       })},
  });
}

TEST(ConvertGenerate, TakesDefaults) {
  const auto input = ConvertGenerate(GoodRequest(), TestShape());
  ASSERT_TRUE(input.ok()) << Message(input.status());
  EXPECT_EQ(input->engine.kind, EngineRequest::Kind::kGenerate);
  EXPECT_EQ(input->prompt.text, "hello");
  EXPECT_EQ(input->engine.sampling.temperature, 1.0);
  EXPECT_EQ(input->engine.sampling.top_k, 0);
  EXPECT_EQ(input->engine.sampling.top_p, 1.0);
  EXPECT_EQ(input->engine.sampling.min_p, 0);
  EXPECT_FALSE(input->engine.sampling.has_penalties());
  EXPECT_TRUE(input->engine.sampling.logit_bias.empty());
  EXPECT_EQ(input->engine.min_tokens, 0);
  EXPECT_FALSE(input->engine.ignore_eos);
  EXPECT_FALSE(input->seed.has_value());
  EXPECT_FALSE(input->max_tokens.has_value());
  EXPECT_FALSE(input->engine.logprobs);
  EXPECT_FALSE(input->engine.prompt_logprobs);
  EXPECT_EQ(input->engine.top_logprobs, 0);
  EXPECT_FALSE(input->echo);
}

TEST(ConvertGenerate, KeepsZeroTemperatureApartFromAbsent) {
  v1::GenerateRequest request = GoodRequest();
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_seed(0);
  const auto input = ConvertGenerate(request, TestShape());
  ASSERT_TRUE(input.ok());
  EXPECT_EQ(input->engine.sampling.temperature, 0.0);
  EXPECT_EQ(input->seed, 0u);
}

TEST(ConvertGenerate, CarriesEverything) {
  v1::GenerateRequest request;
  for (int32_t id : {1, 99, 0}) request.mutable_prompt()->mutable_token_ids()->add_ids(id);
  request.mutable_sampling()->set_temperature(0.5);
  request.mutable_sampling()->set_top_k(100);
  request.mutable_sampling()->set_top_p(0.9);
  request.mutable_sampling()->set_min_p(1);
  request.mutable_sampling()->set_presence_penalty(-2);
  request.mutable_sampling()->set_frequency_penalty(2);
  request.mutable_sampling()->set_repetition_penalty(1e-6);
  (*request.mutable_sampling()->mutable_logit_bias())[99] = -100;
  (*request.mutable_sampling()->mutable_logit_bias())[0] = 0;
  request.mutable_sampling()->set_seed(~uint64_t{0});
  request.mutable_stopping()->set_max_tokens(29);
  request.mutable_stopping()->set_min_tokens(29);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_stopping()->add_stop(std::string(limits::kMaxStopStringBytes, 's'));
  request.mutable_stopping()->add_stop_token_ids(99);
  request.mutable_logprob_options()->set_logprobs(true);
  request.mutable_logprob_options()->set_top_logprobs(20);
  request.mutable_logprob_options()->set_prompt_logprobs(true);
  request.set_echo(true);
  request.set_n(16);
  request.set_priority(9);
  request.set_model("demo");
  request.set_request_id("id-1");
  request.mutable_mask()->add_policies("no-python@3");
  v1::RouterExperts* experts = request.mutable_mask()->add_experts();
  experts->set_router(1);
  experts->add_ids(24);
  experts->add_ids(24);  // duplicates and disorder are fine
  experts->add_ids(0);
  experts->add_rows(4);
  experts->add_columns(0);
  experts->set_bitmap(std::string("\xff\xff\xff\x01", 4));

  auto input = ConvertGenerate(request, TestShape());
  ASSERT_TRUE(input.ok()) << Message(input.status());
  EXPECT_THAT(input->prompt.token_ids, ElementsAre(1, 99, 0));
  EXPECT_EQ(input->engine.sampling.temperature, 0.5);
  EXPECT_EQ(input->engine.sampling.top_k, 100);
  const SamplingParams& sampling = input->engine.sampling;
  EXPECT_EQ(sampling.top_p, 0.9);
  EXPECT_EQ(sampling.min_p, 1);
  EXPECT_EQ(sampling.presence_penalty, -2);
  EXPECT_EQ(sampling.frequency_penalty, 2);
  EXPECT_EQ(sampling.repetition_penalty, 1e-6);
  ASSERT_EQ(sampling.logit_bias.size(), 2u);
  EXPECT_EQ(sampling.logit_bias[0].id, 0);
  EXPECT_EQ(sampling.logit_bias[1].id, 99);
  EXPECT_EQ(sampling.logit_bias[1].bias, -100);
  EXPECT_EQ(input->engine.min_tokens, 29);
  EXPECT_TRUE(input->engine.ignore_eos);
  EXPECT_EQ(input->seed, ~uint64_t{0});
  EXPECT_EQ(input->engine.stop_strings.size(), 1u);
  EXPECT_THAT(input->engine.stop_token_ids, ElementsAre(99));
  EXPECT_TRUE(input->engine.logprobs);
  EXPECT_EQ(input->engine.top_logprobs, 20);
  EXPECT_TRUE(input->engine.prompt_logprobs);
  EXPECT_TRUE(input->echo);
  EXPECT_EQ(input->n, 16);
  EXPECT_EQ(input->engine.priority, 9);
  EXPECT_EQ(input->engine.request_id, "id-1");
  EXPECT_THAT(input->mask.policies, ElementsAre("no-python@3"));
  ASSERT_EQ(input->mask.experts.size(), 1u);
  EXPECT_EQ(input->mask.experts[0].router, 1);
  EXPECT_THAT(input->mask.experts[0].ids, ElementsAre(24, 24, 0));
  EXPECT_THAT(input->mask.experts[0].rows, ElementsAre(4));
  EXPECT_THAT(input->mask.experts[0].columns, ElementsAre(0));
  EXPECT_THAT(input->mask.experts[0].bitmap, ElementsAre(0xff, 0xff, 0xff, 0x01));
  ASSERT_TRUE(FitPrompt(TestShape(), DemoTokenizer(), &*input).ok());
  EXPECT_THAT(input->engine.prompt_ids, ElementsAre(1, 99, 0));
  EXPECT_EQ(input->engine.max_tokens, 29);
}

TEST(ConvertGenerate, IgnoresUnknownFields) {
  std::string bytes = GoodRequest().SerializeAsString();
  bytes += "\xf8\x07\x01";  // field 127, varint 1
  v1::GenerateRequest request;
  ASSERT_TRUE(request.ParseFromString(bytes));
  EXPECT_TRUE(ConvertGenerate(request, TestShape()).ok());
}

TEST(FitContext, NamesPromptAndMaxTokens) {
  CallInput input;
  input.engine.prompt_ids.assign(30, 1);
  input.max_tokens = 2;
  EXPECT_TRUE(FitContext(TestShape(), &input).ok());  // exactly the limit
  EXPECT_EQ(input.engine.max_tokens, 2);
  input.max_tokens = 3;
  EXPECT_THAT(Message(FitContext(TestShape(), &input)),
              HasSubstr("prompt is 30 tokens and stopping.max_tokens 3: together 33, limit 32"));
  input.engine.prompt_ids.assign(32, 1);
  EXPECT_THAT(Message(FitContext(TestShape(), &input)),
              HasSubstr("prompt is 32 tokens, range 1 to 31"));
}

TEST(FitContext, HoldsMinTokensAgainstMaxTokens) {
  CallInput input;
  input.engine.prompt_ids.assign(28, 1);
  input.engine.min_tokens = 4;
  EXPECT_TRUE(FitContext(TestShape(), &input).ok());
  input.max_tokens = 3;
  EXPECT_THAT(Message(FitContext(TestShape(), &input)),
              HasSubstr("stopping.min_tokens is 4, range 0 to 3, which is max_tokens"));
}

TEST(FitContext, BoundsLogProbabilities) {
  ServedShape shape = TestShape();
  shape.context = 1 << 20;
  CallInput input;
  input.engine.prompt_ids.assign(100, 1);
  input.engine.top_logprobs = 20;
  input.max_tokens = 50000;
  EXPECT_TRUE(FitContext(shape, &input).ok());  // none are asked for
  input.engine.logprobs = true;
  EXPECT_THAT(Message(FitContext(shape, &input)),
              HasSubstr("1050000 log-probabilities of 50000 tokens, limit 1048576"));
  input.max_tokens = 49900;
  EXPECT_TRUE(FitContext(shape, &input).ok());
  input.n = 2;
  EXPECT_FALSE(FitContext(shape, &input).ok());
  input.n = 1;
  input.engine.prompt_logprobs = true;
  EXPECT_FALSE(FitContext(shape, &input).ok());
}

TEST(FitContext, DefaultsToWhatTheContextLeaves) {
  ServedShape shape = TestShape();
  CallInput input;
  input.engine.prompt_ids.assign(30, 1);
  ASSERT_TRUE(FitContext(shape, &input).ok());
  EXPECT_EQ(input.engine.max_tokens, 2);
  shape.context = 1000;
  ASSERT_TRUE(FitContext(shape, &input).ok());
  EXPECT_EQ(input.engine.max_tokens, 256);
}

TEST(ConvertScore, NeedsTwoTokens) {
  v1::ScoreRequest request;
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  auto input = ConvertScore(request, TestShape());
  ASSERT_TRUE(input.ok());
  EXPECT_EQ(input->engine.kind, EngineRequest::Kind::kScore);
  EXPECT_THAT(Message(FitPrompt(TestShape(), DemoTokenizer(), &*input)),
              HasSubstr("prompt is 1 tokens, range 2 to 32"));
  request.mutable_prompt()->mutable_token_ids()->mutable_ids()->Resize(32, 1);
  input = ConvertScore(request, TestShape());
  ASSERT_TRUE(input.ok());
  EXPECT_TRUE(FitPrompt(TestShape(), DemoTokenizer(), &*input).ok());
}

TEST(CheckDetokenize, RefusesIdsOutOfRange) {
  v1::DetokenizeRequest request;
  request.add_token_ids(99);
  EXPECT_TRUE(CheckDetokenize(request, 100).ok());
  request.add_token_ids(100);
  EXPECT_THAT(Message(CheckDetokenize(request, 100)), HasSubstr("token_ids[1] is 100"));
}

TEST(CheckListPolicies, ChecksThePageSize) {
  v1::ListPoliciesRequest request;
  EXPECT_EQ(*CheckListPolicies(request), 1000);
  request.set_page_size(0);
  EXPECT_FALSE(CheckListPolicies(request).ok());
  request.set_page_size(1001);
  EXPECT_FALSE(CheckListPolicies(request).ok());
  request.set_page_size(1);
  EXPECT_EQ(*CheckListPolicies(request), 1);
}

}  // namespace
}  // namespace monet::server
