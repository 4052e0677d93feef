// A step model without weights. A key/value slot holds a hash of position, token, mask and of
// every slot before it, all read through the row's block table; logits are a hash of the slots up
// to the row. So one wrong block, position, mask, token or row changes everything after it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/model/step_model.h"

namespace monet {

class HashModel final : public StepModel {
 public:
  static constexpr double kRoutingWeight = 6;
  static constexpr int32_t kRouters = 2;
  static constexpr int32_t kHeads = 3;
  static constexpr int32_t kExperts = 4;  // a side

  // `on_run` is called with the rows of every step, before it: to let time pass, wait or throw.
  HashModel(const StepLimits& limits, int32_t vocabulary,
            std::function<void(int32_t tokens)> on_run = nullptr)
      : limits_(limits), vocabulary_(vocabulary), on_run_(std::move(on_run)) {
    slots_.resize(static_cast<size_t>(limits.kv_blocks) * limits.block_size);
    for (uint64_t& slot : slots_) slot = Garbage();
    masks_.resize(limits.mask_slots + limits.shadow_slots);
    for (uint64_t& mask : masks_) mask = Garbage();
  }

  // The logits and gates of every row with this token are not numbers.
  void set_bad_token(int32_t id) { bad_token_ = id; }
  int64_t masks_set() const { return masks_set_; }
  int64_t blocks_poisoned() const { return blocks_poisoned_; }

  int32_t vocabulary() const override { return vocabulary_; }
  double routing_weight_per_token() const override { return kRoutingWeight; }
  const StepLimits& limits() const override { return limits_; }

  void SetMask(int32_t slot, const ExpertMask& mask) override {
    uint64_t hash = 1;
    for (uint8_t byte : mask.bitmap()) hash = Mix(hash, byte);
    masks_.at(slot) = hash;
    ++masks_set_;
  }

  void PoisonBlock(int32_t block) override {
    for (int32_t n = 0; n < limits_.block_size; ++n) {
      slots_.at(static_cast<size_t>(block) * limits_.block_size + n) = Garbage();
    }
    ++blocks_poisoned_;
  }

  StepOutput Run(const StepBatch& batch) override {
    CheckShapes(batch);
    if (on_run_) on_run_(batch.tokens());
    std::vector<uint64_t> states;
    removed_.clear();
    shadow_.clear();
    for (int32_t t = 0; t < batch.tokens(); ++t) states.push_back(RunRow(batch, t));
    logits_.clear();
    for (int32_t row : batch.logit_rows) {
      for (int32_t id = 0; id < vocabulary_; ++id) {
        const uint64_t hash = Mix(states[row], id);
        const auto logit = static_cast<float>(hash >> 40) * 0x1p-21f - 4.0f;  // [-4, 4)
        logits_.push_back(batch.token_ids[row] == bad_token_ ? logit / 0.0f : logit);
      }
    }
    if (batch.routing_rows.empty()) return {logits_, removed_, shadow_};
    Route(batch, states);
    return {logits_, removed_, shadow_, &routing_};
  }

 private:
  static uint64_t Mix(uint64_t a, uint64_t b) {  // SplitMix64's finaliser
    uint64_t z = a * 0x9E3779B97F4A7C15 + b + 0x632BE59BD9B4E019;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

  // Never the same again, in no model of the process: a stale read cannot agree by chance.
  static uint64_t Garbage() {
    static uint64_t count = 0;
    return Mix(0xBAD, ++count);
  }

  void CheckShapes(const StepBatch& batch) const {
    const size_t tokens = batch.token_ids.size();
    MONET_CHECK(tokens >= 1 && batch.tokens() <= limits_.max_tokens);
    MONET_CHECK(batch.positions.size() == tokens && batch.sequences.size() == tokens);
    MONET_CHECK(batch.mask_slots.size() == tokens && batch.shadow_slots.size() == tokens);
    for (int32_t slot : batch.mask_slots) MONET_CHECK(slot < limits_.mask_slots);
    MONET_CHECK(batch.block_tables.size() % batch.table_stride == 0);
    MONET_CHECK(static_cast<int32_t>(batch.block_tables.size()) <=
                batch.table_stride * limits_.max_sequences);
    MONET_CHECK(static_cast<int32_t>(batch.logit_rows.size()) <= limits_.max_logit_rows);
    for (int32_t row : batch.routing_rows) MONET_CHECK(row >= 0 && row < batch.tokens());
    for (size_t t = 1; t < tokens; ++t) {
      MONET_CHECK(batch.sequences[t] != batch.sequences[t - 1] ||
                  batch.positions[t] == batch.positions[t - 1] + 1);
    }
  }

  // Of few sizes, so that many pairs weigh the same.
  void Route(const StepBatch& batch, const std::vector<uint64_t>& states) {
    routing_.Begin(static_cast<int32_t>(batch.routing_rows.size()), kHeads);
    for (int32_t router = 0; router < kRouters; ++router) {
      for (int32_t row : batch.routing_rows) {
        std::vector<int32_t> count;
        std::vector<uint16_t> index(2 * kHeads * kExperts);
        std::vector<float> gate(index.size());
        for (size_t list = 0; list < 2 * kHeads; ++list) {
          const uint64_t hash = Mix(states[row], 1000 + router * 100 + list);
          count.push_back(0);
          for (uint16_t n = 0; n < kExperts; ++n) {
            if (n != hash % kExperts && (hash >> (8 + n)) % 2 == 0) continue;
            const size_t at = list * kExperts + static_cast<size_t>(count.back()++);
            index[at] = n;
            gate[at] = static_cast<float>((hash >> (16 + 4 * n)) % 8) / 8;
            if (batch.token_ids[row] == bad_token_) gate[at] /= 0.0f;
          }
        }
        routing_.Add(count, index, gate, kExperts);
      }
    }
  }

  uint64_t& Slot(const StepBatch& batch, int32_t t, int32_t position) {
    const int32_t entry = position / limits_.block_size;
    MONET_CHECK(entry < batch.table_stride);
    const int32_t block =
        batch.block_tables.at(static_cast<size_t>(batch.sequences[t]) * batch.table_stride + entry);
    MONET_CHECK(block >= 0 && block < limits_.kv_blocks);
    return slots_[static_cast<size_t>(block) * limits_.block_size + position % limits_.block_size];
  }

  uint64_t RunRow(const StepBatch& batch, int32_t t) {
    const int32_t position = batch.positions[t];
    const int32_t slot = batch.mask_slots[t];
    uint64_t state = 0;
    for (int32_t p = 0; p < position; ++p) state = Mix(state, Slot(batch, t, p));
    uint64_t value = Mix(state, position);
    value = Mix(value, batch.token_ids[t]);
    value = Mix(value, slot < 0 ? 0 : masks_.at(slot));
    Slot(batch, t, position) = value;
    state = Mix(state, value);
    removed_.push_back(slot < 0 ? 0.0f : Weight(state));
    const int32_t shadow = batch.shadow_slots[t];
    shadow_.push_back(shadow < 0 ? 0.0f : Weight(Mix(state, masks_.at(shadow))));
    return state;
  }

  // [0, kRoutingWeight)
  static float Weight(uint64_t hash) {
    return static_cast<float>(hash >> 40) * 0x1p-24f * float{kRoutingWeight};
  }

  const StepLimits limits_;
  const int32_t vocabulary_;
  const std::function<void(int32_t)> on_run_;
  int32_t bad_token_ = -1;
  std::vector<uint64_t> slots_;  // (B, P)
  std::vector<uint64_t> masks_;  // (slots)
  std::vector<float> logits_;
  std::vector<float> removed_;
  std::vector<float> shadow_;
  RoutingRows routing_;
  int64_t masks_set_ = 0;
  int64_t blocks_poisoned_ = 0;
};

}  // namespace monet
