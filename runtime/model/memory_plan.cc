#include "runtime/model/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <utility>

#include "kernels/cpu/workspace.h"
#include "runtime/limits.h"
#include "runtime/model/expert_packing.h"
#include "runtime/model/step_limits.h"
#include "runtime/policy/expert_mask.h"

namespace monet {
namespace {

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kDefaultContexts = 32;  // of cache, when no size is configured
// Code, gRPC, tokenizer, metrics and policies: 26 MiB resident with models/demo and its policies.
constexpr int64_t kProcessReserve = 64 * kMiB;
constexpr int64_t kThreadReserve = 2 * kMiB;  // stack and allocator's arena of a computing thread
constexpr int64_t kFloat = sizeof(float);

// What the CPU backend takes for `count` elements.
int64_t Allocation(int64_t count, int64_t element_bytes) {
  const int64_t bytes = std::max<int64_t>(count, 1) * element_bytes;
  return static_cast<int64_t>(kernels::AlignedBytes(static_cast<size_t>(bytes)));
}

int64_t Elements(const StoredTensor& tensor) {
  int64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= extent;
  return count;
}

int64_t Bytes(const StoredTensor& tensor) { return Elements(tensor) * DTypeBytes(tensor.dtype); }

kernels::Matrix ShapeOf(const StoredTensor& tensor) {
  const auto dtype =
      tensor.dtype == TensorDType::kBF16 ? kernels::DType::kBF16 : kernels::DType::kF32;
  return {.dtype = dtype, .rows = tensor.shape[0], .cols = tensor.shape[1]};
}

// Follows weights.cc tensor by tensor.
class WeightBytes {
 public:
  explicit WeightBytes(const StoredModel& model) : config_(model.config) {
    for (const StoredTensor& tensor : model.tensors) {
      by_role_[{tensor.role, tensor.layer}] = &tensor;
    }
    for (const StoredTensor& tensor : model.tensors) Add(tensor);
    const int64_t entries = int64_t{config_.max_context} * (config_.HeadDim() / 2);
    total_ += 2 * Allocation(entries, kFloat);
  }

  int64_t total() const { return total_; }
  // The most that one thread holds on the host at a time.
  int64_t largest_load() const { return largest_load_; }

 private:
  void Add(const StoredTensor& tensor) {
    switch (tensor.role) {
      case TensorRole::kFinalNorm:
      case TensorRole::kInputNorm:
      case TensorRole::kPostAttentionNorm:
      case TensorRole::kUp1Bias:
      case TensorRole::kUp2Bias:
      case TensorRole::kMean1:  // one threshold for mean and variance
      case TensorRole::kMean2:
        total_ += Allocation(Elements(tensor), kFloat);
        return;
      case TensorRole::kDown:
        return AddDown({TensorRole::kDown}, TensorRole::kDownBias2, tensor.layer);
      case TensorRole::kDown11:
        return AddDown({TensorRole::kDown11, TensorRole::kDown12}, TensorRole::kDownBias1,
                       tensor.layer);
      case TensorRole::kDown21:
        return AddDown({TensorRole::kDown21, TensorRole::kDown22}, TensorRole::kDownBias2,
                       tensor.layer);
      case TensorRole::kDown12:  // counted with the first of its side
      case TensorRole::kDown22:
      case TensorRole::kDownBias1:
      case TensorRole::kDownBias2:
      case TensorRole::kVariance1:
      case TensorRole::kVariance2:
      case TensorRole::kIgnored:
        return;
      default:  // matrices, as stored
        total_ += Allocation(Bytes(tensor), 1);
        largest_load_ = std::max(largest_load_, std::min(Bytes(tensor), 8 * kMiB));
    }
  }

  void AddDown(std::initializer_list<TensorRole> roles, TensorRole bias, int32_t layer) {
    ExpertDownParts parts{.units = config_.UpUnits()};
    int64_t host = 0;
    for (const TensorRole role : roles) {
      const StoredTensor& tensor = *by_role_.at({role, layer});
      parts.down.push_back(ShapeOf(tensor));
      host += Bytes(tensor);
    }
    const StoredTensor& bias_tensor = *by_role_.at({bias, layer});
    parts.bias = ShapeOf(bias_tensor);
    const auto packed =
        static_cast<int64_t>(PackedElements(parts) * kernels::SizeOf(PackedDType(parts)));
    total_ += Allocation(packed, 1);
    largest_load_ = std::max(largest_load_, host + Bytes(bias_tensor) + packed);
  }

  const ModelConfig& config_;
  std::map<std::pair<TensorRole, int32_t>, const StoredTensor*> by_role_;
  int64_t total_ = 0;
  int64_t largest_load_ = 0;
};

// Follows Forward's Allocate, without cache and masks.
int64_t StepBytes(const ModelConfig& config, const StepLimits& limits) {
  const int64_t t = limits.max_tokens;
  const int64_t n = limits.max_logit_rows;
  const int64_t kv_width = int64_t{config.kv_heads} * config.HeadDim();
  const int64_t stride = (limits.max_context + limits.block_size - 1) / limits.block_size;
  const int64_t lists = 2 * t * config.routing_heads;
  int64_t bytes = 7 * Allocation(t, 4);  // ids, positions, sequences, slots and weights of masks
  bytes += Allocation(limits.max_sequences * stride, 4) + Allocation(n, 4);
  bytes += 4 * Allocation(t * config.hidden, kFloat);  // hidden, normed, q, attention
  bytes += 2 * Allocation(t * kv_width, kFloat);
  bytes += Allocation(n * config.vocabulary, kFloat);
  bytes += Allocation(lists, 4) + Allocation(lists * config.experts, 2) +
           Allocation(lists * config.experts, kFloat);
  bytes += Allocation(2 * t, 4) + Allocation(2 * t * config.experts, 2);
  return bytes + n * config.vocabulary * kFloat + 2 * t * kFloat;  // copies of the results
}

absl::StatusOr<int64_t> ActivationBytes(const ModelConfig& config, const StepLimits& limits,
                                        int32_t threads) {
  const int64_t workspace = kernels::WorkspaceBytes({.max_tokens = limits.max_tokens,
                                                     .max_context = limits.max_context,
                                                     .hidden = config.hidden,
                                                     .heads = config.heads,
                                                     .routing_heads = config.routing_heads,
                                                     .experts = config.experts,
                                                     .moe_dim = config.moe_dim},
                                                    threads);
  if (workspace < 0) return InvalidArgument("the working memory of a step overflows");
  return StepBytes(config, limits) + workspace;
}

int64_t CacheBytes(const MemoryPlan& plan, int64_t blocks) {
  return 2 * Allocation(blocks * plan.block_size * (plan.token_bytes / 2), 1);
}

int64_t BlocksFor(int64_t tokens, int32_t block_size) {
  return (tokens + block_size - 1) / block_size;
}

// The most blocks, up to `most`, whose cache fits `bytes`.
int64_t BlocksWithin(const MemoryPlan& plan, int64_t bytes, int64_t most) {
  int64_t low = 0;
  int64_t high = most;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (CacheBytes(plan, middle) <= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

absl::Status ChooseCache(const MemoryRequest& request, MemoryPlan* plan) {
  const int64_t one_context = BlocksFor(plan->max_context, plan->block_size);
  const int64_t fixed = plan->Total();
  const int64_t left = request.memory - fixed;
  int64_t blocks = BlocksFor(request.kv_tokens, plan->block_size);
  if (request.kv_tokens == 0) {
    const int64_t most = BlocksFor(kDefaultContexts * plan->max_context, plan->block_size);
    blocks = BlocksWithin(*plan, request.shared ? left / 4 : left, most);
    blocks = std::max(blocks, one_context);
  } else if (request.kv_tokens < plan->max_context) {
    return InvalidArgument("kv_tokens is {}, at least the model's context, {}", request.kv_tokens,
                           plan->max_context);
  }
  if (blocks > INT32_MAX / plan->block_size) {
    return InvalidArgument("kv_tokens is {}, too many", request.kv_tokens);
  }
  plan->kv_blocks = static_cast<int32_t>(one_context);
  plan->kv_cache = CacheBytes(*plan, one_context);
  plan->minimum = plan->Peak();
  plan->kv_blocks = static_cast<int32_t>(blocks);
  plan->kv_cache = CacheBytes(*plan, blocks);
  if (plan->Peak() <= request.memory) return absl::OkStatus();
  return Error(absl::StatusCode::kResourceExhausted,
               "memory: {} bytes are needed, {} are available (weights {}, key/value cache of {} "
               "tokens {}, activations {}, masks {}, requests {}, reserve {}; {} at most while "
               "loading); give more memory, or lower kv_tokens, max_running or max_queue",
               plan->Peak(), request.memory, plan->weights, plan->KvTokens(), plan->kv_cache,
               plan->activations, plan->masks, plan->requests, plan->reserve,
               plan->weights + plan->loading + plan->reserve);
}

}  // namespace

StoredModel StoredModel::Of(const Checkpoint& checkpoint) {
  StoredModel model{checkpoint.config(), {}};
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    model.tensors.push_back(
        {tensor.spec.role, tensor.spec.layer, tensor.info.shape, tensor.info.dtype});
  }
  return model;
}

StoredModel StoredModel::Assume(const ModelConfig& config, TensorDType dtype) {
  StoredModel model{config, {}};
  for (const TensorSpec& spec : TensorTable(config)) {
    if (spec.presence != Presence::kRequired) continue;
    model.tensors.push_back({spec.role, spec.layer, spec.shape, dtype});
  }
  return model;
}

int64_t MemoryPlan::Peak() const { return std::max(Total(), weights + loading + reserve); }

int64_t KvBytesPerToken(const ModelConfig& config, int64_t element_bytes) {
  return int64_t{2} * config.layers * config.kv_heads * config.HeadDim() * element_bytes;
}

absl::StatusOr<MemoryPlan> PlanMemory(const StoredModel& model, const MemoryRequest& request) {
  const ModelConfig& config = model.config;
  StepLimits limits = request.limits;
  limits.kv_blocks = 1;
  MONET_ASSIGN_OR_RETURN(limits, CheckStepLimits(limits, config));
  const WeightBytes weights(model);
  const auto mask_bytes = static_cast<int64_t>(MaskShape{config.Routers(), config.experts}.Bytes());

  MemoryPlan plan;
  plan.memory = request.memory;
  plan.weights = weights.total();
  plan.loading = request.threads * weights.largest_load();
  MONET_ASSIGN_OR_RETURN(plan.activations, ActivationBytes(config, limits, request.threads));
  plan.mask_slots = limits.mask_slots;
  plan.shadow_slots = limits.shadow_slots;
  plan.masks = Allocation((limits.mask_slots + limits.shadow_slots) * mask_bytes, 1);
  plan.requests = static_cast<int64_t>(limits::kMaxIngressBytes) +
                  limits.max_sequences * static_cast<int64_t>(limits::kStreamOutboxBytes) +
                  (int64_t{limits.max_sequences} + request.max_queue) * mask_bytes;
  plan.reserve = kProcessReserve + request.threads * kThreadReserve;
  plan.token_bytes = KvBytesPerToken(config, kFloat);
  plan.block_size = limits.block_size;
  plan.max_context = limits.max_context;
  MONET_RETURN_IF_ERROR(ChooseCache(request, &plan));
  return plan;
}

std::string FormatBytes(int64_t bytes) {
  const bool large = bytes >= 1024 * kMiB;
  const double unit = static_cast<double>(large ? 1024 * kMiB : kMiB);
  const double tenths = std::ceil(static_cast<double>(bytes) / unit * 10) / 10;
  return fmt::format("{:.1f} {}", tenths, large ? "GiB" : "MiB");
}

std::string MemoryTable(const MemoryPlan& plan, const std::string& indent) {
  std::string text;
  const auto row = [&](std::string_view name, int64_t bytes, const std::string& note) {
    text += fmt::format("{}{:<12}{:>10}{}{}\n", indent, name, FormatBytes(bytes),
                        note.empty() ? "" : "  ", note);
  };
  row("weights", plan.weights, "");
  row("kv cache", plan.kv_cache,
      fmt::format("{} tokens, {:.1f} contexts of {}; {} bytes a token (fp32)", plan.KvTokens(),
                  plan.Contexts(), plan.max_context, plan.token_bytes));
  row("activations", plan.activations, "");
  row("masks", plan.masks,
      fmt::format("{} mask slots, {} shadow slots", plan.mask_slots, plan.shadow_slots));
  row("requests", plan.requests, "running and waiting");
  row("reserve", plan.reserve, "the process itself");
  row("total", plan.Total(), fmt::format("of {}", FormatBytes(plan.memory)));
  if (plan.Peak() > plan.Total()) row("peak", plan.Peak(), "while the weights are read");
  return text;
}

}  // namespace monet
