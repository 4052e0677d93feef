// What the engine needs of a model: run one step over rows of tokens. Implemented by Forward (the
// real one) and by the hash model of the simulation tests.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/policy/expert_mask.h"
#include "runtime/policy/routing_rows.h"

namespace monet {

// Rows of one step. Rows of a sequence are consecutive positions in ascending order.
struct StepBatch {
  std::vector<int32_t> token_ids;     // (T)
  std::vector<int32_t> positions;     // (T)
  std::vector<int32_t> sequences;     // (T) row of block_tables
  std::vector<int32_t> mask_slots;    // (T) -1: no mask
  std::vector<int32_t> shadow_slots;  // (T) mask whose weight is summed, not removed; -1: none;
                                      // empty: none in any row
  std::vector<int32_t> block_tables;  // (S, table_stride)
  int32_t table_stride = 0;
  std::vector<int32_t> logit_rows;    // (N) rows whose logits are wanted, ascending
  std::vector<int32_t> routing_rows;  // rows whose routing is wanted, ascending

  int32_t tokens() const { return static_cast<int32_t>(token_ids.size()); }
  void Clear() {
    token_ids.clear();
    positions.clear();
    sequences.clear();
    mask_slots.clear();
    shadow_slots.clear();
    block_tables.clear();
    table_stride = 0;
    logit_rows.clear();
    routing_rows.clear();
  }
};

// Results live until the next Run.
struct StepOutput {
  std::span<const float> logits;          // (N, V)
  std::span<const float> removed_weight;  // (T) routing weight removed by the row's mask, summed
                                          // over routers and routing heads; at most R·H
  std::span<const float> shadow_weight;   // (T) the same of the row's shadow
  const RoutingRows* routing =
      nullptr;  // of routing_rows, in their order; null when there are none
};

// Fixed sizes of a model's working memory.
struct StepLimits {
  int32_t max_tokens = 64;      // T, rows of one step
  int32_t max_logit_rows = 64;  // N
  int32_t max_sequences = 64;   // S
  int32_t max_context = 0;      // positions of one sequence; 0: the model's own limit
  int32_t kv_blocks = 0;        // B
  int32_t block_size = 16;      // P
  int32_t mask_slots = 8;       // distinct masks at a time
  int32_t shadow_slots = 0;     // distinct shadows at a time; slots from mask_slots on
};

// Not thread-safe: the engine's thread alone calls it.
class StepModel {
 public:
  virtual ~StepModel() = default;

  virtual int32_t vocabulary() const = 0;
  // R·H: the routing weight of one row before any mask.
  virtual double routing_weight_per_token() const = 0;
  virtual const StepLimits& limits() const = 0;
  // Fills a mask slot. The slot must not be in use by rows of a step that was not yet run.
  virtual void SetMask(int32_t slot, const ExpertMask& mask) = 0;
  // The block goes from one sequence to another. Checked builds overwrite its keys and values, so
  // that a stale read cannot go unseen; otherwise nothing needs to happen.
  virtual void PoisonBlock(int32_t /*block*/) {}
  // REQUIRES: shapes within limits(), ids and positions in range (checked by the caller).
  virtual StepOutput Run(const StepBatch& batch) = 0;
};

}  // namespace monet
