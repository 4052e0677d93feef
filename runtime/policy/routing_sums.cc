#include "runtime/policy/routing_sums.h"

#include <cmath>

#include "runtime/base/check.h"

namespace monet {
namespace {

using Wide = unsigned __int128;

// value · 2^-shift, rounded to nearest.
Wide Rounded(Wide value, int shift) { return (value + (Wide{1} << (shift - 1))) >> shift; }

template <typename T, typename U>
bool AddTo(T* sum, U value) {
  return !__builtin_add_overflow(*sum, value, sum);
}

uint64_t Fixed(double value, double unit) {
  return static_cast<uint64_t>(std::llround(value / unit));
}

// weight · score · 2^-20, rounded away from zero at a half.
__int128 Product(uint64_t weight, int64_t score) {
  const auto magnitude = static_cast<Wide>(score < 0 ? -score : score);
  const auto product = static_cast<__int128>(Rounded(Wide{weight} * magnitude, 20));
  return score < 0 ? -product : product;
}

}  // namespace

DocumentRouting::DocumentRouting(MaskShape shape)
    : shape_(shape),
      weights_(static_cast<size_t>(shape.Experts())),
      squares_(weights_.size()),
      active_(weights_.size()) {}

void DocumentRouting::Add(int32_t router, int32_t i, int32_t j, double weight) {
  MONET_CHECK(router >= 0 && router < shape_.routers && i >= 0 && i < shape_.experts && j >= 0 &&
              j < shape_.experts);
  MONET_CHECK(weight >= 0 && weight <= kMaxCollectedWeight && tokens_ > 0);
  if (weight == 0) return;
  const size_t expert = (static_cast<size_t>(router) * shape_.experts + i) * shape_.experts + j;
  if (active_[expert]++ == 0) touched_.push_back(static_cast<uint32_t>(expert));
  const uint64_t fixed = Fixed(weight, kWeightUnit);
  fits_ &=
      AddTo(&weights_[expert], fixed) && AddTo(&squares_[expert], Rounded(Wide{fixed} * fixed, 24));
}

void DocumentRouting::Clear() {
  for (const uint32_t expert : touched_) {
    weights_[expert] = 0;
    squares_[expert] = 0;
    active_[expert] = 0;
  }
  touched_.clear();
  tokens_ = 0;
  fits_ = true;
}

RoutingSums::RoutingSums(MaskShape shape, int32_t labels, bool scored)
    : shape_(shape),
      labels_(labels),
      scored_(scored),
      cells_(static_cast<size_t>(shape.Experts())),
      totals_(static_cast<size_t>(labels) * kHalves) {
  const size_t all = totals_.size() * cells_;
  weights.resize(all);
  means.resize(all);
  mean_squares.resize(all);
  active.resize(all);
  if (!scored) return;
  squares.resize(all);
  products.resize(all);
}

int64_t RoutingSums::Bytes(MaskShape shape, int32_t labels, bool scored) {
  return shape.Experts() * labels * kHalves * (3 * 8 + 4 + (scored ? 2 * 8 : 0));
}

absl::Status RoutingSums::Add(int32_t label, int32_t half, const DocumentRouting& document,
                              double score) {
  MONET_CHECK(label >= 0 && label < labels_ && (half == 0 || half == 1));
  MONET_CHECK(document.shape() == shape_ && document.tokens() > 0);
  MONET_CHECK(!scored_ || std::abs(score) <= kMaxCollectedScore);
  const size_t first = First(label, half);
  const auto tokens = static_cast<uint64_t>(document.tokens());
  const int64_t fixed_score = scored_ ? std::llround(score / kScoreUnit) : 0;
  bool fits = document.fits_;
  for (const uint32_t expert : document.touched_) {
    const size_t at = first + expert;
    const uint64_t weight = document.weights_[expert];
    const uint64_t mean = (weight + tokens / 2) / tokens;
    fits &= AddTo(&weights[at], weight) && AddTo(&means[at], mean) &&
            AddTo(&mean_squares[at], Rounded(Wide{mean} * mean, 16)) &&
            AddTo(&active[at], document.active_[expert]);
    if (!scored_) continue;
    fits &= AddTo(&squares[at], document.squares_[expert]) &&
            AddTo(&products[at], Product(weight, fixed_score));
  }
  LabelTotals& sum = totals(label, half);
  int64_t score_sum = 0;
  int64_t square_sum = 0;
  const auto score_square =
      static_cast<int64_t>(Rounded(static_cast<Wide>(fixed_score * fixed_score), 8));
  fits &= !__builtin_mul_overflow(fixed_score, document.tokens(), &score_sum) &&
          !__builtin_mul_overflow(score_square, document.tokens(), &square_sum) &&
          AddTo(&sum.scores, score_sum) && AddTo(&sum.score_squares, square_sum) &&
          AddTo(&sum.tokens, document.tokens());
  ++sum.documents;
  if (fits) return absl::OkStatus();
  return Error(absl::StatusCode::kOutOfRange, "a sum over the documents leaves 64 bits");
}

}  // namespace monet
