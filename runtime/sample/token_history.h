// Which tokens a sequence has seen, as penalties count them.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

namespace monet {

// Grows with the distinct tokens of one sequence. Not thread-safe.
class TokenHistory {
 public:
  void AddPrompt(std::span<const int32_t> ids) {
    for (int32_t id : ids) times_generated_.try_emplace(id, 0);
  }
  void AddGenerated(int32_t id) { ++times_generated_[id]; }

  // Every token of prompt and output, with how often it was generated; 0: in the prompt only.
  const std::unordered_map<int32_t, int32_t>& times_generated() const { return times_generated_; }

 private:
  std::unordered_map<int32_t, int32_t> times_generated_;
};

}  // namespace monet
