#include "runtime/model/tensors.h"

#include <map>
#include <utility>

#include "runtime/model/json.h"

namespace monet {
namespace {

// Adds the tensors of one layer or of the whole model under a common name prefix.
class TableWriter {
 public:
  TableWriter(std::vector<TensorSpec>* table, std::string prefix, int32_t layer)
      : table_(table), prefix_(std::move(prefix)), layer_(layer) {}

  void Require(std::string_view name, TensorRole role, std::vector<int64_t> shape) {
    table_->push_back({.name = fmt::format("{}{}", prefix_, name),
                       .role = role,
                       .layer = layer_,
                       .shape = std::move(shape)});
  }
  void Ignore(std::string_view name) {
    table_->push_back({.name = fmt::format("{}{}", prefix_, name),
                       .layer = layer_,
                       .presence = Presence::kIgnored});
  }

 private:
  std::vector<TensorSpec>* table_;
  std::string prefix_;
  int32_t layer_;
};

void AddRouter(const ModelConfig& config, TableWriter* writer) {
  const int64_t rows = int64_t{config.routing_heads} * config.experts;  // H·E
  writer->Require("router.w1.weight", TensorRole::kRouter1, {rows, config.hidden});
  writer->Require("router.w2.weight", TensorRole::kRouter2, {rows, config.hidden});
  writer->Require("router.norm1.running_mean", TensorRole::kMean1, {config.routing_heads});
  writer->Require("router.norm1.running_var", TensorRole::kVariance1, {config.routing_heads});
  writer->Require("router.norm2.running_mean", TensorRole::kMean2, {config.routing_heads});
  writer->Require("router.norm2.running_var", TensorRole::kVariance2, {config.routing_heads});
  writer->Ignore("router.norm1.num_batches_tracked");
  writer->Ignore("router.norm2.num_batches_tracked");
}

void AddExperts(const ModelConfig& config, TableWriter* writer) {
  const int64_t experts = config.experts;
  const int64_t inner = experts * config.UpUnits();  // E·M/2 or E·M
  const int64_t outputs = config.DownOutputs();      // D/2 or D
  if (config.decompose == kernels::Decompose::kHorizontal) {
    writer->Require("moe.u.weight", TensorRole::kUp1, {inner, config.hidden});
    writer->Require("moe.u.bias", TensorRole::kUp1Bias, {inner});
    writer->Require("moe.v.weight", TensorRole::kDown, {outputs, inner});
    writer->Require("moe.b", TensorRole::kDownBias2, {experts, outputs});
    return;
  }
  writer->Require("moe.u1.weight", TensorRole::kUp1, {inner, config.hidden});
  writer->Require("moe.u1.bias", TensorRole::kUp1Bias, {inner});
  writer->Require("moe.u2.weight", TensorRole::kUp2, {inner, config.hidden});
  writer->Require("moe.u2.bias", TensorRole::kUp2Bias, {inner});
  writer->Require("moe.v11.weight", TensorRole::kDown11, {outputs, inner});
  writer->Require("moe.v12.weight", TensorRole::kDown12, {outputs, inner});
  writer->Require("moe.v21.weight", TensorRole::kDown21, {outputs, inner});
  writer->Require("moe.v22.weight", TensorRole::kDown22, {outputs, inner});
  writer->Require("moe.b1", TensorRole::kDownBias1, {experts, outputs});
  writer->Require("moe.b2", TensorRole::kDownBias2, {experts, outputs});
}

void AddLayer(const ModelConfig& config, int32_t layer, std::vector<TensorSpec>* table) {
  TableWriter writer(table, fmt::format("model.layers.{}.", layer), layer);
  const int64_t hidden = config.hidden;
  const int64_t kv = int64_t{config.kv_heads} * config.HeadDim();  // G·C
  writer.Require("input_layernorm.weight", TensorRole::kInputNorm, {hidden});
  writer.Require("self_attn.q_proj.weight", TensorRole::kQuery, {hidden, hidden});
  writer.Require("self_attn.k_proj.weight", TensorRole::kKey, {kv, hidden});
  writer.Require("self_attn.v_proj.weight", TensorRole::kValue, {kv, hidden});
  writer.Require("self_attn.o_proj.weight", TensorRole::kOutput, {hidden, hidden});
  writer.Ignore("self_attn.rotary_emb.inv_freq");
  writer.Require("post_attention_layernorm.weight", TensorRole::kPostAttentionNorm, {hidden});
  if (layer % config.group_layers == 0) AddRouter(config, &writer);
  AddExperts(config, &writer);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

std::vector<TensorSpec> TensorTable(const ModelConfig& config) {
  std::vector<TensorSpec> table;
  TableWriter writer(&table, "", -1);
  writer.Require("model.embed_tokens.weight", TensorRole::kEmbedding,
                 {config.vocabulary, config.hidden});
  writer.Require("model.norm.weight", TensorRole::kFinalNorm, {config.hidden});
  writer.Ignore("model.rotary_emb.inv_freq");
  if (config.tied) {
    writer.Ignore("lm_head.weight");
  } else {
    writer.Require("lm_head.weight", TensorRole::kHead, {config.vocabulary, config.hidden});
  }
  for (int32_t layer = 0; layer < config.layers; ++layer) AddLayer(config, layer, &table);
  return table;
}

bool IsWeightDType(TensorDType dtype) {
  return dtype == TensorDType::kF32 || dtype == TensorDType::kBF16;
}

absl::Status CheckTensors(const std::vector<TensorSpec>& table,
                          const std::vector<TensorInfo>& present) {
  std::map<std::string_view, const TensorInfo*> unmatched;
  for (const TensorInfo& info : present) unmatched.emplace(info.name, &info);
  for (const TensorSpec& spec : table) {
    const auto it = unmatched.find(spec.name);
    if (spec.presence == Presence::kIgnored) {
      if (it != unmatched.end()) unmatched.erase(it);
      continue;
    }
    if (it == unmatched.end()) return InvalidArgument("tensor {} is missing", spec.name);
    const TensorInfo& info = *it->second;
    if (info.shape != spec.shape) {
      return InvalidArgument("tensor {} has shape {}, config.json asks for {}", spec.name,
                             ShapeText(info.shape), ShapeText(spec.shape));
    }
    if (!IsWeightDType(info.dtype)) {
      return InvalidArgument("tensor {} has dtype {}, allowed: F32, BF16", spec.name,
                             DTypeName(info.dtype));
    }
    unmatched.erase(it);
  }
  if (!unmatched.empty()) {
    return InvalidArgument("tensor {} is not part of the model that config.json describes",
                           Printable(unmatched.begin()->first));
  }
  return absl::OkStatus();
}

int64_t TableBytes(const std::vector<TensorSpec>& table, TensorDType dtype) {
  int64_t bytes = 0;
  for (const TensorSpec& spec : table) {
    if (spec.presence == Presence::kIgnored) continue;
    int64_t count = DTypeBytes(dtype);
    for (int64_t dimension : spec.shape) count *= dimension;
    bytes += count;
  }
  return bytes;
}

}  // namespace monet
