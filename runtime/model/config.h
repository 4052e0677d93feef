// config.json of a Monet checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/backend.h"
#include "runtime/base/status.h"

namespace monet {

// The fields that enter the maths (Monet paper section 3; names of the published config.json in
// comments) and the two token ids. All positive unless said otherwise.
struct ModelConfig {
  int32_t hidden = 0;         // D   hidden_size
  int32_t layers = 0;         // L   num_hidden_layers
  int32_t heads = 0;          // A   num_attention_heads; A·C == D
  int32_t kv_heads = 0;       // G   num_key_value_heads (default A); divides A
  int32_t vocabulary = 0;     // V   vocab_size
  int32_t max_context = 0;    //     max_position_embeddings
  int32_t experts = 0;        // E   moe_experts
  int32_t moe_dim = 0;        // M   moe_dim
  int32_t routing_heads = 0;  // H   moe_heads
  int32_t top_k = 0;          // k   moe_topk, at most E; never defaulted
  int32_t group_layers = 0;   //     moe_groups: layers per router
  kernels::Decompose decompose = kernels::Decompose::kVertical;  // moe_decompose
  double rope_theta = 10000.0;
  double rms_norm_eps = 1e-6;
  bool tied = false;  // tie_word_embeddings
  int32_t bos_id = 1;
  int32_t eos_id = 2;

  int32_t HeadDim() const { return hidden / heads; }                              // C
  int32_t Routers() const { return (layers + group_layers - 1) / group_layers; }  // R
  int32_t RouterOf(int32_t layer) const { return layer / group_layers; }
  // Inner units a side of `up` (M/2 or M) and outputs of a `down` block (D/2 or D).
  int32_t UpUnits() const {
    return decompose == kernels::Decompose::kVertical ? moe_dim / 2 : moe_dim;
  }
  int32_t DownOutputs() const {
    return decompose == kernels::Decompose::kVertical ? hidden / 2 : hidden;
  }
};

// Errors: INVALID_ARGUMENT naming the field and what is allowed (hidden_act other than relu2,
// non-null rope_scaling, true attention_bias, heads·head_dim != hidden_size, odd moe_dim or
// hidden_size with vertical, moe_topk > moe_experts, values out of limits.h ...).
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json);

// The maths fields as sorted "key=value" lines, the configuration part of the fingerprint.
std::string CanonicalConfig(const ModelConfig& config);

// Threshold of one head and side: mean + Φ⁻¹(1 − k/E) · sqrt(var + 1e-5); −infinity when k == E.
double RouterThreshold(double mean, double variance, int32_t top_k, int32_t experts);

}  // namespace monet
