#include "runtime/model/offline_forward.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>

#include "runtime/model/forward.h"

namespace monet {
namespace {

constexpr int32_t kChunkTokens = 64;
constexpr int32_t kBlockSize = 16;

absl::Status CheckBatch(const TokenBatch& batch, const ModelConfig& config,
                        const ExpertMask* mask) {
  if (batch.length < 1 || batch.length > config.max_context) {
    return InvalidArgument("ids: length is {}, allowed 1 to {}", batch.length, config.max_context);
  }
  if (batch.sequences < 1 ||
      static_cast<uint64_t>(batch.sequences) != batch.ids.size() / batch.length ||
      batch.ids.size() % batch.length != 0) {
    return InvalidArgument("ids: {} values are not {} sequences of {}", batch.ids.size(),
                           batch.sequences, batch.length);
  }
  for (int32_t id : batch.ids) {
    if (id < 0 || id >= config.vocabulary) {
      return InvalidArgument("ids: token id {}, allowed 0 to {}", id, config.vocabulary - 1);
    }
  }
  const MaskShape shape{.routers = config.Routers(), .experts = config.experts};
  if (mask != nullptr && mask->shape() != shape) {
    return InvalidArgument("mask: made for {} routers of {} experts a side, the model has {} of {}",
                           mask->shape().routers, mask->shape().experts, shape.routers,
                           shape.experts);
  }
  return absl::OkStatus();
}

// Rows begin .. begin + count of one sequence; logits of all of them.
void FillChunk(std::span<const int32_t> ids, int32_t begin, int32_t slot, StepBatch* step) {
  const size_t count = ids.size();
  step->token_ids.assign(ids.begin(), ids.end());
  step->positions.resize(count);
  std::iota(step->positions.begin(), step->positions.end(), begin);
  step->sequences.assign(count, 0);
  step->mask_slots.assign(count, slot);
  step->logit_rows.resize(count);
  std::iota(step->logit_rows.begin(), step->logit_rows.end(), 0);
}

}  // namespace

absl::StatusOr<std::vector<float>> ForwardLogits(kernels::Backend* backend, const Weights& weights,
                                                 const TokenBatch& batch, const ExpertMask* mask) {
  const ModelConfig& config = weights.config();
  MONET_RETURN_IF_ERROR(CheckBatch(batch, config, mask));
  const auto length = static_cast<int32_t>(batch.length);
  const int32_t blocks = (length + kBlockSize - 1) / kBlockSize;
  const int32_t chunk = std::min(length, kChunkTokens);
  MONET_ASSIGN_OR_RETURN(const auto forward, Forward::Create(backend, &weights,
                                                             {.max_tokens = chunk,
                                                              .max_logit_rows = chunk,
                                                              .max_sequences = 1,
                                                              .max_context = length,
                                                              .kv_blocks = blocks,
                                                              .block_size = kBlockSize,
                                                              .mask_slots = 1}));
  if (mask != nullptr) forward->SetMask(0, *mask);
  StepBatch step;
  step.block_tables.resize(blocks);
  std::iota(step.block_tables.begin(), step.block_tables.end(), 0);
  step.table_stride = blocks;
  std::vector<float> logits;
  logits.reserve(batch.ids.size() * config.vocabulary);
  for (int64_t s = 0; s < batch.sequences; ++s) {
    for (int32_t begin = 0; begin < length; begin += chunk) {
      const auto ids = batch.ids.subspan(s * length + begin, std::min(chunk, length - begin));
      FillChunk(ids, begin, mask == nullptr ? -1 : 0, &step);
      const StepOutput output = forward->Run(step);
      logits.insert(logits.end(), output.logits.begin(), output.logits.end());
    }
  }
  return logits;
}

}  // namespace monet
