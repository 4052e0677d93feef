// Runs sequences through a Forward as an engine would: rows of several sequences in one step,
// paged blocks in any order, chunks of any size.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/model/backend_factory.h"
#include "runtime/model/forward.h"
#include "runtime/model/weights.h"

namespace monet::testing {

// A backend with the weights of a checkpoint in it; fails the test when they cannot be had.
struct LoadedModel {
  std::unique_ptr<kernels::Backend> backend;
  std::unique_ptr<Weights> weights;

  static LoadedModel Load(const std::filesystem::path& directory, const std::string& backend,
                          int32_t threads = 1);
  std::unique_ptr<Forward> MakeForward(const StepLimits& limits) const;
};

// One sequence in the test's hands.
struct TestSequence {
  std::vector<int32_t> ids;  // all that are known
  int32_t computed = 0;      // rows that ran
  int32_t mask_slot = -1;
  std::vector<int32_t> blocks;  // block table
};

// Rows of one sequence in a step.
struct Rows {
  TestSequence* sequence = nullptr;
  int32_t count = 0;  // the next rows after `computed`
};

// Logits and removed weight of every row of the step, in the order given.
struct StepRows {
  std::vector<float> logits;   // (T, V)
  std::vector<float> removed;  // (T)
};

// Runs the rows in one step, moves `computed` on.
StepRows RunStep(Forward* forward, const std::vector<Rows>& rows);

// Runs what is left of a sequence in chunks of `chunk` rows; appends to the results of all of them.
StepRows RunToEnd(Forward* forward, TestSequence* sequence, int32_t chunk);

// Greedy continuation, one row a step. Lowest id wins a tie.
std::vector<int32_t> Greedy(Forward* forward, TestSequence* sequence, int32_t tokens);

int32_t ArgMax(std::span<const float> logits);

// `count` distinct block ids out of [0, blocks), shuffled by `seed`.
std::vector<int32_t> ShuffledBlocks(int32_t blocks, int32_t count, uint32_t seed);

}  // namespace monet::testing
