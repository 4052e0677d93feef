#include "runtime/model/config.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "runtime/limits.h"
#include "runtime/model/json.h"

namespace monet {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFile = "config.json";
constexpr JsonLimits kJsonLimits{.max_depth = 16, .max_values = 100'000};
constexpr double kBatchNormEps = 1e-5;  // torch.nn.BatchNorm1d's; no key of config.json changes it

// The member, or null when it is absent or JSON null (Hugging Face writes both for "not given").
const Json* FindMember(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::Status ReadInt(const Json& object, const char* key, int64_t low, int64_t high, int32_t* out) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return InvalidArgument("{}: {} is missing", kFile, key);
  if (!value->is_number_integer()) {
    return InvalidArgument("{}: {} is not an integer, allowed {} to {}", kFile, key, low, high);
  }
  // Beyond int64 nlohmann holds an unsigned number, whose conversion would wrap.
  const bool huge = value->is_number_unsigned() &&
                    value->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()};
  const int64_t number = huge ? std::numeric_limits<int64_t>::max() : value->get<int64_t>();
  if (number < low || number > high) {
    return InvalidArgument("{}: {} is {}, allowed {} to {}", kFile, key, number, low, high);
  }
  *out = static_cast<int32_t>(number);
  return absl::OkStatus();
}

// Leaves *out alone when the member is absent or null.
absl::Status ReadOptionalInt(const Json& object, const char* key, int64_t low, int64_t high,
                             int32_t* out) {
  if (FindMember(object, key) == nullptr) return absl::OkStatus();
  return ReadInt(object, key, low, high, out);
}

absl::Status ReadOptionalDouble(const Json& object, const char* key, double low, double high,
                                double* out) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_number()) return InvalidArgument("{}: {} is not a number", kFile, key);
  const double number = value->get<double>();
  if (!(number >= low && number <= high)) {
    return InvalidArgument("{}: {} is {}, allowed {} to {}", kFile, key, number, low, high);
  }
  *out = number;
  return absl::OkStatus();
}

absl::Status ReadOptionalBool(const Json& object, const char* key, bool* out) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_boolean()) return InvalidArgument("{}: {} is not true or false", kFile, key);
  *out = value->get<bool>();
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadString(const Json& object, const char* key) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return InvalidArgument("{}: {} is missing", kFile, key);
  if (!value->is_string()) return InvalidArgument("{}: {} is not a string", kFile, key);
  return value->get<std::string>();
}

absl::Status ReadSizes(const Json& json, ModelConfig* config) {
  MONET_RETURN_IF_ERROR(ReadInt(json, "hidden_size", 1, limits::kMaxHidden, &config->hidden));
  MONET_RETURN_IF_ERROR(ReadInt(json, "num_hidden_layers", 1, limits::kMaxLayers, &config->layers));
  MONET_RETURN_IF_ERROR(ReadInt(json, "num_attention_heads", 1, limits::kMaxHeads, &config->heads));
  config->kv_heads = config->heads;
  MONET_RETURN_IF_ERROR(
      ReadOptionalInt(json, "num_key_value_heads", 1, limits::kMaxHeads, &config->kv_heads));
  MONET_RETURN_IF_ERROR(
      ReadInt(json, "vocab_size", 1, limits::kMaxVocabulary, &config->vocabulary));
  MONET_RETURN_IF_ERROR(
      ReadInt(json, "max_position_embeddings", 1, limits::kMaxContext, &config->max_context));
  MONET_RETURN_IF_ERROR(
      ReadInt(json, "moe_experts", 1, limits::kMaxExpertsPerSide, &config->experts));
  MONET_RETURN_IF_ERROR(ReadInt(json, "moe_dim", 1, limits::kMaxMoeDim, &config->moe_dim));
  MONET_RETURN_IF_ERROR(ReadInt(json, "moe_heads", 1, limits::kMaxHeads, &config->routing_heads));
  MONET_RETURN_IF_ERROR(ReadInt(json, "moe_topk", 1, config->experts, &config->top_k));
  return ReadInt(json, "moe_groups", 1, limits::kMaxLayers, &config->group_layers);
}

absl::Status ReadForm(const Json& json, ModelConfig* config) {
  MONET_ASSIGN_OR_RETURN(const std::string act, ReadString(json, "hidden_act"));
  if (act != "relu2") {
    return InvalidArgument("{}: hidden_act is \"{}\", allowed: relu2", kFile, Printable(act));
  }
  MONET_ASSIGN_OR_RETURN(const std::string decompose, ReadString(json, "moe_decompose"));
  if (decompose == "vertical") {
    config->decompose = kernels::Decompose::kVertical;
  } else if (decompose == "horizontal") {
    config->decompose = kernels::Decompose::kHorizontal;
  } else {
    return InvalidArgument("{}: moe_decompose is \"{}\", allowed: vertical, horizontal", kFile,
                           Printable(decompose));
  }
  // rope_parameters replaces rope_theta and rope_scaling in newer Hugging Face releases; ignoring
  // it would compute with a default rotation base.
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (FindMember(json, key) != nullptr) {
      return InvalidArgument("{}: {} is given, allowed: null", kFile, key);
    }
  }
  bool attention_bias = false;
  MONET_RETURN_IF_ERROR(ReadOptionalBool(json, "attention_bias", &attention_bias));
  if (attention_bias) return InvalidArgument("{}: attention_bias is true, allowed: false", kFile);
  MONET_RETURN_IF_ERROR(ReadOptionalBool(json, "tie_word_embeddings", &config->tied));
  // A rotation base below 1 turns the frequencies around; RoPE has never been defined that way.
  MONET_RETURN_IF_ERROR(ReadOptionalDouble(json, "rope_theta", 1.0, 1e12, &config->rope_theta));
  MONET_RETURN_IF_ERROR(
      ReadOptionalDouble(json, "rms_norm_eps", 1e-12, 1.0, &config->rms_norm_eps));
  MONET_RETURN_IF_ERROR(
      ReadOptionalInt(json, "bos_token_id", 0, config->vocabulary - 1, &config->bos_id));
  return ReadOptionalInt(json, "eos_token_id", 0, config->vocabulary - 1, &config->eos_id);
}

absl::Status CheckTogether(const Json& json, const ModelConfig& config) {
  const auto& [hidden, heads] = std::pair(config.hidden, config.heads);
  if (hidden % heads != 0) {
    return InvalidArgument("{}: hidden_size is {}, not a multiple of num_attention_heads {}", kFile,
                           hidden, heads);
  }
  int32_t head_dim = config.HeadDim();
  MONET_RETURN_IF_ERROR(ReadOptionalInt(json, "head_dim", 1, limits::kMaxHidden, &head_dim));
  if (head_dim != config.HeadDim()) {
    return InvalidArgument("{}: head_dim is {}, allowed: hidden_size / num_attention_heads = {}",
                           kFile, head_dim, config.HeadDim());
  }
  if (head_dim % 2 != 0) {
    return InvalidArgument("{}: head size {} is odd, rotary embedding needs an even one", kFile,
                           head_dim);
  }
  if (heads % config.kv_heads != 0) {
    return InvalidArgument("{}: num_key_value_heads is {}, not a divisor of num_attention_heads {}",
                           kFile, config.kv_heads, heads);
  }
  // "vertical" halves both; the original code would silently drop the odd one.
  if (config.decompose == kernels::Decompose::kVertical) {
    if (config.moe_dim % 2 != 0) {
      return InvalidArgument("{}: moe_dim is {}, \"vertical\" needs an even one", kFile,
                             config.moe_dim);
    }
    if (hidden % 2 != 0) {
      return InvalidArgument("{}: hidden_size is {}, \"vertical\" needs an even one", kFile,
                             hidden);
    }
  }
  if (config.bos_id >= config.vocabulary || config.eos_id >= config.vocabulary) {
    return InvalidArgument("{}: vocab_size is {}, too small for the default token ids {} and {}",
                           kFile, config.vocabulary, config.bos_id, config.eos_id);
  }
  return absl::OkStatus();
}

// Φ⁻¹ by Newton's method on Φ(x) = erfc(−x/√2)/2. Starts at 0, where Newton on a function that is
// concave beyond it climbs monotonically for p > 1/2; p < 1/2 is the mirror image.
double NormalQuantile(double p) {
  if (p == 0.5) return 0;
  if (p < 0.5) return -NormalQuantile(1 - p);
  const double tail = 1 - p;  // erfc keeps its relative precision in the tail, Φ does not
  double x = 0;
  constexpr int kMaxIterations = 200;
  for (int i = 0; i < kMaxIterations; ++i) {
    const double q = 0.5 * std::erfc(x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    const double step = (q - tail) / density;
    x += step;
    if (std::abs(step) < 1e-15 * (1 + std::abs(x))) break;
  }
  return x;
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json) {
  if (json.size() > limits::kMaxConfigBytes) {
    return InvalidArgument("{} has {} bytes, limit {}", kFile, json.size(),
                           limits::kMaxConfigBytes);
  }
  MONET_ASSIGN_OR_RETURN(const Json root, ParseJsonObject(json, kFile, kJsonLimits));
  ModelConfig config;
  MONET_RETURN_IF_ERROR(ReadSizes(root, &config));
  MONET_RETURN_IF_ERROR(ReadForm(root, &config));
  MONET_RETURN_IF_ERROR(CheckTogether(root, config));
  return config;
}

std::string CanonicalConfig(const ModelConfig& config) {
  const bool vertical = config.decompose == kernels::Decompose::kVertical;
  std::string text;
  const auto line = [&text](std::string_view key, const auto& value) {
    text += fmt::format("{}={}\n", key, value);
  };
  line("hidden_act", "relu2");
  line("hidden_size", config.hidden);
  line("moe_decompose", vertical ? "vertical" : "horizontal");
  line("moe_dim", config.moe_dim);
  line("moe_experts", config.experts);
  line("moe_groups", config.group_layers);
  line("moe_heads", config.routing_heads);
  line("moe_topk", config.top_k);
  line("num_attention_heads", config.heads);
  line("num_hidden_layers", config.layers);
  line("num_key_value_heads", config.kv_heads);
  line("rms_norm_eps", fmt::format("{:.17g}", config.rms_norm_eps));
  line("rope_theta", fmt::format("{:.17g}", config.rope_theta));
  line("tie_word_embeddings", config.tied);
  line("vocab_size", config.vocabulary);
  return text;
}

double RouterThreshold(double mean, double variance, int32_t top_k, int32_t experts) {
  if (top_k == experts) return -std::numeric_limits<double>::infinity();
  const double sigma = NormalQuantile(1 - static_cast<double>(top_k) / experts);
  return mean + sigma * std::sqrt(variance + kBatchNormEps);
}

}  // namespace monet
