#include "runtime/model/step_limits.h"

namespace monet {
namespace {

absl::Status CheckRange(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidArgument("{} is {}, allowed {} to {}", field, value, low, high);
}

}  // namespace

absl::StatusOr<StepLimits> CheckStepLimits(StepLimits limits, const ModelConfig& config) {
  constexpr int64_t kMaxTokens = 1 << 16;
  constexpr int64_t kMaxSequences = 1 << 16;
  constexpr int64_t kMaxBlocks = 1 << 24;
  constexpr int64_t kMaxBlockSize = 1024;
  constexpr int64_t kMaxMaskSlots = 4096;
  MONET_RETURN_IF_ERROR(CheckRange("max_tokens", limits.max_tokens, 1, kMaxTokens));
  MONET_RETURN_IF_ERROR(CheckRange("max_logit_rows", limits.max_logit_rows, 1, limits.max_tokens));
  MONET_RETURN_IF_ERROR(CheckRange("max_sequences", limits.max_sequences, 1, kMaxSequences));
  if (limits.max_context == 0) limits.max_context = config.max_context;
  MONET_RETURN_IF_ERROR(CheckRange("max_context", limits.max_context, 1, config.max_context));
  MONET_RETURN_IF_ERROR(CheckRange("kv_blocks", limits.kv_blocks, 1, kMaxBlocks));
  MONET_RETURN_IF_ERROR(CheckRange("block_size", limits.block_size, 1, kMaxBlockSize));
  MONET_RETURN_IF_ERROR(CheckRange("mask_slots", limits.mask_slots, 0, kMaxMaskSlots));
  MONET_RETURN_IF_ERROR(CheckRange("shadow_slots", limits.shadow_slots, 0, kMaxMaskSlots));
  return limits;
}

}  // namespace monet
