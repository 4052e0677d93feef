#include "runtime/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/model/checkpoint_files.h"

namespace monet {
namespace {

using ::testing::HasSubstr;

nlohmann::json Published() {
  return nlohmann::json::parse(R"({
    "model_type": "monet", "architectures": ["MonetForCausalLM"],
    "vocab_size": 32000, "hidden_size": 1536, "intermediate_size": null,
    "num_hidden_layers": 24, "num_attention_heads": 12, "num_key_value_heads": 12,
    "hidden_act": "relu2", "max_position_embeddings": 2048, "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0, "rope_scaling": null, "attention_bias": false,
    "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": false, "top_k": 50,
    "moe_dim": 12, "moe_heads": 6, "moe_experts": 512, "moe_topk": 8, "moe_groups": 4,
    "moe_decompose": "vertical", "torch_dtype": "bfloat16"})");
}

std::string ErrorOf(const nlohmann::json& json) {
  const auto config = ParseModelConfig(json.dump());
  if (config.ok()) return "";
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  return Message(config.status());
}

// The error when `key` has `value`, given as JSON.
std::string ErrorWith(const std::string& key, const std::string& value) {
  nlohmann::json json = Published();
  json[key] = nlohmann::json::parse(value);
  return ErrorOf(json);
}

std::string ErrorWithout(const std::string& key) {
  nlohmann::json json = Published();
  json.erase(key);
  return ErrorOf(json);
}

TEST(ConfigTest, ReadsThePublishedForm) {
  const auto config = ParseModelConfig(Published().dump());
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->hidden, 1536);
  EXPECT_EQ(config->layers, 24);
  EXPECT_EQ(config->heads, 12);
  EXPECT_EQ(config->kv_heads, 12);
  EXPECT_EQ(config->vocabulary, 32000);
  EXPECT_EQ(config->max_context, 2048);
  EXPECT_EQ(config->experts, 512);
  EXPECT_EQ(config->moe_dim, 12);
  EXPECT_EQ(config->routing_heads, 6);
  EXPECT_EQ(config->top_k, 8);
  EXPECT_EQ(config->group_layers, 4);
  EXPECT_EQ(config->decompose, kernels::Decompose::kVertical);
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_EQ(config->rms_norm_eps, 1e-6);
  EXPECT_FALSE(config->tied);
  EXPECT_EQ(config->HeadDim(), 128);
  EXPECT_EQ(config->Routers(), 6);
  EXPECT_EQ(config->UpUnits(), 6);
  EXPECT_EQ(config->DownOutputs(), 768);
}

TEST(ConfigTest, ReadsEveryGoldenFolder) {
  for (const char* name :
       {"vd_tiny", "hd_tiny", "vd_gqa_tied", "hd_odd", "vd_262144", "hd_262144", "vd_bf16"}) {
    const auto config =
        ParseModelConfig(testing::ReadText(testing::GoldenFolder(name) / "config.json"));
    EXPECT_TRUE(config.ok()) << name << ": " << config.status().ToString();
  }
}

TEST(ConfigTest, DefaultsOfHuggingFaceOnly) {
  nlohmann::json json = Published();
  for (const char* key :
       {"num_key_value_heads", "rope_theta", "rms_norm_eps", "rope_scaling", "attention_bias",
        "tie_word_embeddings", "bos_token_id", "eos_token_id"}) {
    json.erase(key);
  }
  const auto config = ParseModelConfig(json.dump());
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->kv_heads, 12);
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_EQ(config->rms_norm_eps, 1e-6);
  EXPECT_EQ(config->bos_id, 1);
  EXPECT_EQ(config->eos_id, 2);
  EXPECT_FALSE(config->tied);
  // null is how Hugging Face writes "not given".
  EXPECT_EQ(ErrorWith("num_key_value_heads", "null"), "");
  EXPECT_EQ(ErrorWith("bos_token_id", "null"), "");
}

TEST(ConfigTest, NeverDefaultsWhatTheCheckpointsDisagreeOn) {
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                          "hidden_act", "max_position_embeddings", "moe_dim", "moe_heads",
                          "moe_experts", "moe_topk", "moe_groups", "moe_decompose"}) {
    EXPECT_EQ(ErrorWithout(key), std::string("config.json: ") + key + " is missing");
    EXPECT_EQ(ErrorWith(key, "null"), std::string("config.json: ") + key + " is missing");
  }
}

TEST(ConfigTest, RefusesBadIntegers) {
  for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "max_position_embeddings", "moe_dim", "moe_heads",
                          "moe_experts", "moe_topk", "moe_groups", "head_dim"}) {
    for (const char* value : {"0", "-1", "2147483648", "9223372036854775807",
                              "18446744073709551615", "-9223372036854775808", "4294967297"}) {
      EXPECT_THAT(ErrorWith(key, value), HasSubstr(std::string(key) + " is ")) << value;
      EXPECT_THAT(ErrorWith(key, value), HasSubstr("allowed ")) << value;
    }
    for (const char* value :
         {"8.0", "1e3", "\"8\"", "true", "[8]", "{}", "100000000000000000000000"}) {
      EXPECT_THAT(ErrorWith(key, value), HasSubstr(std::string(key) + " is not an integer"))
          << value;
    }
  }
}

TEST(ConfigTest, RefusesBadFloats) {
  for (const char* key : {"rope_theta", "rms_norm_eps"}) {
    for (const char* value : {"0", "-1.0", "1e300", "-1e-6", "5e-324"}) {
      EXPECT_THAT(ErrorWith(key, value), HasSubstr(std::string(key) + " is ")) << value;
    }
    EXPECT_THAT(ErrorWith(key, "\"1\""), HasSubstr("is not a number"));
  }
  EXPECT_EQ(ErrorWith("rope_theta", "10000"), "");
  std::string text = Published().dump();
  text.replace(text.find("10000.0"), 7, "NaN");
  EXPECT_THAT(Message(ParseModelConfig(text).status()), HasSubstr("not valid JSON"));
}

TEST(ConfigTest, RefusesOtherArchitectures) {
  EXPECT_EQ(ErrorWith("hidden_act", "\"silu\""),
            "config.json: hidden_act is \"silu\", allowed: relu2");
  EXPECT_THAT(ErrorWith("hidden_act", "7"), HasSubstr("hidden_act is not a string"));
  EXPECT_THAT(ErrorWith("moe_decompose", "\"diagonal\""), HasSubstr("moe_decompose is"));
  EXPECT_THAT(ErrorWith("rope_scaling", "{\"type\": \"linear\", \"factor\": 2}"),
              HasSubstr("rope_scaling is given, allowed: null"));
  EXPECT_THAT(ErrorWith("rope_parameters", "{\"rope_theta\": 5e4}"),
              HasSubstr("rope_parameters is given, allowed: null"));
  EXPECT_THAT(ErrorWith("attention_bias", "true"), HasSubstr("attention_bias is true"));
  EXPECT_THAT(ErrorWith("attention_bias", "1"), HasSubstr("attention_bias is not true or false"));
  EXPECT_THAT(ErrorWith("tie_word_embeddings", "\"yes\""), HasSubstr("tie_word_embeddings"));
}

TEST(ConfigTest, RefusesFieldsThatDoNotFitTogether) {
  EXPECT_EQ(ErrorWith("moe_topk", "513"), "config.json: moe_topk is 513, allowed 1 to 512");
  EXPECT_EQ(ErrorWith("moe_topk", "512"), "");
  EXPECT_THAT(ErrorWith("hidden_size", "1537"), HasSubstr("not a multiple"));
  EXPECT_EQ(ErrorWith("head_dim", "128"), "");
  EXPECT_THAT(ErrorWith("head_dim", "64"), HasSubstr("head_dim is 64"));
  EXPECT_THAT(ErrorWith("num_key_value_heads", "5"), HasSubstr("num_key_value_heads is 5"));
  EXPECT_THAT(ErrorWith("num_key_value_heads", "24"), HasSubstr("num_key_value_heads is 24"));
  EXPECT_THAT(ErrorWith("moe_dim", "13"), HasSubstr("moe_dim is 13"));
  EXPECT_THAT(ErrorWith("hidden_size", "36"), HasSubstr("head size 3 is odd"));
  EXPECT_THAT(ErrorWith("eos_token_id", "32000"), HasSubstr("eos_token_id is 32000"));
  EXPECT_THAT(ErrorWith("bos_token_id", "-1"), HasSubstr("bos_token_id is -1"));
  EXPECT_THAT(ErrorWith("eos_token_id", "[2, 3]"), HasSubstr("eos_token_id is not an integer"));
  nlohmann::json tiny = Published();
  tiny.erase("eos_token_id");
  tiny["vocab_size"] = 2;
  EXPECT_THAT(ErrorOf(tiny), HasSubstr("vocab_size is 2"));
}

TEST(ConfigTest, HorizontalTakesOddWidths) {
  nlohmann::json json = Published();
  json["moe_decompose"] = "horizontal";
  json["moe_dim"] = 3;
  const auto config = ParseModelConfig(json.dump());
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->UpUnits(), 3);
  EXPECT_EQ(config->DownOutputs(), 1536);
}

TEST(ConfigTest, RefusesDuplicateKeysAndBadJson) {
  std::string text = Published().dump();
  text.insert(1, "\"moe_topk\": 32, ");
  EXPECT_THAT(Message(ParseModelConfig(text).status()), HasSubstr("duplicate key \"moe_topk\""));
  for (const std::string& bad :
       {std::string(), std::string("{"), std::string("[]"), std::string(2'000'000, ' ')}) {
    EXPECT_EQ(ParseModelConfig(bad).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(ConfigTest, CanonicalFormIsSortedAndComplete) {
  const auto config = ParseModelConfig(Published().dump());
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(CanonicalConfig(*config),
            "hidden_act=relu2\n"
            "hidden_size=1536\n"
            "moe_decompose=vertical\n"
            "moe_dim=12\n"
            "moe_experts=512\n"
            "moe_groups=4\n"
            "moe_heads=6\n"
            "moe_topk=8\n"
            "num_attention_heads=12\n"
            "num_hidden_layers=24\n"
            "num_key_value_heads=12\n"
            "rms_norm_eps=9.9999999999999995e-07\n"
            "rope_theta=10000\n"
            "tie_word_embeddings=false\n"
            "vocab_size=32000\n");
}

// Values of scipy.stats.norm.ppf.
TEST(ConfigTest, RouterThreshold) {
  const double unit = 1 - 1e-5;  // so that sqrt(variance + eps) is 1
  EXPECT_NEAR(RouterThreshold(0, unit, 8, 512), 2.1538746940614564, 1e-12);
  EXPECT_NEAR(RouterThreshold(0, unit, 1, 2), 0, 1e-15);
  EXPECT_NEAR(RouterThreshold(0, unit, 1, 4096), 3.4871041041144313, 1e-12);
  EXPECT_NEAR(RouterThreshold(0, unit, 504, 512), -2.1538746940614564, 1e-12);
  EXPECT_NEAR(RouterThreshold(0.5, 4 - 1e-5, 8, 512), 0.5 + 2 * 2.1538746940614564, 1e-12);
  EXPECT_EQ(RouterThreshold(3, 1, 16, 16), -std::numeric_limits<double>::infinity());
  // Φ of the threshold gives k / E back.
  for (int32_t k : {1, 7, 100, 2047, 2049, 4095}) {
    const double sigma = RouterThreshold(0, unit, k, 4096);
    EXPECT_NEAR(0.5 * std::erfc(sigma / std::sqrt(2.0)), k / 4096.0, 1e-13) << k;
  }
}

}  // namespace
}  // namespace monet
