// Sums of routing weights over labelled documents: what the rules that find a label's experts need.
// All sums are of integers, so that neither the order of the documents nor where a collection was
// broken off and taken up again changes a bit.
//
// Units: a token's weight g is rounded to 2^-32 once, then exact. Of a document with T tokens and
// Σg = W, the mean is W / T rounded to 2^-32, its square rounded to 2^-48, the square of a token's
// weight to 2^-40. A score t is rounded to 2^-20, the product of W and t to 2^-32. A sum that
// leaves 64 bits is an error, never a wrap.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/policy/expert_mask.h"

namespace monet {

inline constexpr double kWeightUnit = 0x1p-32;       // weights, means, products
inline constexpr double kMeanSquareUnit = 0x1p-48;   // squares of means
inline constexpr double kSquareUnit = 0x1p-40;       // squares of weights
inline constexpr double kScoreUnit = 0x1p-20;        // scores
inline constexpr double kScoreSquareUnit = 0x1p-32;  // squares of scores
inline constexpr double kMaxCollectedWeight = 128;   // g, above the sum over all routing heads
inline constexpr double kMaxCollectedScore = 100;    // |t|

// The weights of one document, by expert. Dense: R·E²·20 bytes. Not thread-safe.
class DocumentRouting {
 public:
  // REQUIRES: shape.IsValid().
  explicit DocumentRouting(MaskShape shape);

  // Another token; what Add adds from here on is its routing.
  void AddToken() { ++tokens_; }
  // REQUIRES: within the shape, once an expert and token, 0 <= weight <= kMaxCollectedWeight.
  void Add(int32_t router, int32_t i, int32_t j, double weight);
  void Clear();

  const MaskShape& shape() const { return shape_; }
  int64_t tokens() const { return tokens_; }

 private:
  friend class RoutingSums;

  MaskShape shape_;
  int64_t tokens_ = 0;
  bool fits_ = true;               // in 64 bits
  std::vector<uint64_t> weights_;  // (R, E²)
  std::vector<uint64_t> squares_;  // (R, E²)
  std::vector<uint32_t> active_;   // (R, E²) tokens with g > 0
  std::vector<uint32_t> touched_;  // experts that have any
};

// What there is of one label in one half of the documents, beside the experts' sums.
struct LabelTotals {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t scores = 0;         // Σ t over tokens
  int64_t score_squares = 0;  // Σ t² over tokens

  bool operator==(const LabelTotals&) const = default;
};

class RoutingSums {
 public:
  static constexpr int32_t kHalves = 2;

  // What Bytes() of memory hold. REQUIRES: shape.IsValid(), labels >= 1.
  RoutingSums(MaskShape shape, int32_t labels, bool scored);
  static int64_t Bytes(MaskShape shape, int32_t labels, bool scored);

  const MaskShape& shape() const { return shape_; }
  int32_t labels() const { return labels_; }
  bool scored() const { return scored_; }

  // Adds a document to a label's half. `score` is of every token of it and is not read unless
  // scored(). Errors: OUT_OF_RANGE when a sum would leave 64 bits; the sums are then unusable.
  // REQUIRES: document.tokens() > 0, the same shape, |score| <= kMaxCollectedScore.
  absl::Status Add(int32_t label, int32_t half, const DocumentRouting& document, double score = 0);

  LabelTotals& totals(int32_t label, int32_t half) { return totals_[Part(label, half)]; }
  const LabelTotals& totals(int32_t label, int32_t half) const {
    return totals_[Part(label, half)];
  }

  // (labels, kHalves, R, E²) each; the last two empty unless scored. To be filled when read back.
  std::vector<uint64_t> weights;       // Σg
  std::vector<uint64_t> means;         // Σ over documents of the document's mean g
  std::vector<uint64_t> mean_squares;  // and of its square
  std::vector<uint32_t> active;        // tokens with g > 0
  std::vector<uint64_t> squares;       // Σg²
  std::vector<int64_t> products;       // Σ g·t

  // Of the first expert of router 0.
  size_t First(int32_t label, int32_t half) const { return Part(label, half) * cells_; }
  size_t cells() const { return cells_; }  // R·E²

 private:
  size_t Part(int32_t label, int32_t half) const {
    return static_cast<size_t>(label) * kHalves + static_cast<size_t>(half);
  }

  MaskShape shape_;
  int32_t labels_;
  bool scored_;
  size_t cells_;
  std::vector<LabelTotals> totals_;
};

}  // namespace monet
