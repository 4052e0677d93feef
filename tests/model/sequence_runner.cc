#include "tests/model/sequence_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>

namespace monet::testing {
namespace {

template <typename T>
T Require(absl::StatusOr<T> value) {
  if (!value.ok()) {
    ADD_FAILURE() << value.status().ToString();
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

LoadedModel LoadedModel::Load(const std::filesystem::path& directory, const std::string& backend,
                              int32_t threads) {
  LoadedModel model;
  model.backend = Require(MakeBackend(backend, threads));
  model.weights = Require(LoadWeights(directory, model.backend.get(), threads));
  return model;
}

std::unique_ptr<Forward> LoadedModel::MakeForward(const StepLimits& limits) const {
  return Require(Forward::Create(backend.get(), weights.get(), limits));
}

StepRows RunStep(Forward* forward, const std::vector<Rows>& rows) {
  StepBatch batch;
  for (const Rows& part : rows) {
    batch.table_stride =
        std::max(batch.table_stride, static_cast<int32_t>(part.sequence->blocks.size()));
  }
  for (size_t s = 0; s < rows.size(); ++s) {
    TestSequence* sequence = rows[s].sequence;
    for (int32_t i = 0; i < rows[s].count; ++i) {
      batch.token_ids.push_back(sequence->ids.at(sequence->computed));
      batch.positions.push_back(sequence->computed++);
      batch.sequences.push_back(static_cast<int32_t>(s));
      batch.mask_slots.push_back(sequence->mask_slot);
    }
    std::vector<int32_t> table = sequence->blocks;
    table.resize(batch.table_stride, -1);
    batch.block_tables.insert(batch.block_tables.end(), table.begin(), table.end());
  }
  batch.logit_rows.resize(batch.token_ids.size());
  std::iota(batch.logit_rows.begin(), batch.logit_rows.end(), 0);
  const StepOutput output = forward->Run(batch);
  return {.logits = {output.logits.begin(), output.logits.end()},
          .removed = {output.removed_weight.begin(), output.removed_weight.end()}};
}

StepRows RunToEnd(Forward* forward, TestSequence* sequence, int32_t chunk) {
  StepRows all;
  while (sequence->computed < static_cast<int32_t>(sequence->ids.size())) {
    const int32_t left = static_cast<int32_t>(sequence->ids.size()) - sequence->computed;
    const StepRows step = RunStep(forward, {{sequence, std::min(left, chunk)}});
    all.logits.insert(all.logits.end(), step.logits.begin(), step.logits.end());
    all.removed.insert(all.removed.end(), step.removed.begin(), step.removed.end());
  }
  return all;
}

std::vector<int32_t> Greedy(Forward* forward, TestSequence* sequence, int32_t tokens) {
  const int32_t vocabulary = forward->vocabulary();
  const int32_t prompt = static_cast<int32_t>(sequence->ids.size()) - sequence->computed;
  StepRows step = RunToEnd(forward, sequence, std::min(prompt, forward->limits().max_tokens));
  std::vector<int32_t> out;
  while (static_cast<int32_t>(out.size()) < tokens) {
    const int32_t id = ArgMax(std::span(step.logits).last(vocabulary));
    out.push_back(id);
    sequence->ids.push_back(id);
    if (static_cast<int32_t>(out.size()) == tokens) break;
    step = RunStep(forward, {{sequence, 1}});
  }
  return out;
}

int32_t ArgMax(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<int32_t> ShuffledBlocks(int32_t blocks, int32_t count, uint32_t seed) {
  std::vector<int32_t> all(blocks);
  std::iota(all.begin(), all.end(), 0);
  std::mt19937 random(seed);
  std::shuffle(all.begin(), all.end(), random);
  all.resize(count);
  return all;
}

}  // namespace monet::testing
