#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "kernels/reference/reference_backend.h"
#include "tests/kernels/op_case.h"

namespace monet::kernels::testing {
namespace {

constexpr int32_t kLayers = 2;
constexpr int32_t kLayer = 1;

struct AttentionShape {
  int32_t tokens;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t block_size;
  int32_t sequences;
  int32_t context;  // positions a sequence can have
};

// The paged cache of a few sequences and rows at distinct places in it.
class PagedCase : public OpCase {
 public:
  explicit PagedCase(const AttentionShape& shape)
      : shape_(shape), rng_(shape.tokens * 131 + shape.context * 17 + shape.head_dim) {
    stride_ = (shape.context + shape.block_size - 1) / shape.block_size;
    blocks_ = shape.sequences * stride_ + 2;
    std::vector<int32_t> free(blocks_);
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), rng_);
    table_.assign(free.begin(), free.begin() + shape.sequences * stride_);
    std::set<std::pair<int32_t, int32_t>> taken;
    while (static_cast<int32_t>(position_.size()) < shape.tokens) {
      const int32_t s = Uniform(rng_, 0, shape.sequences - 1);
      const int32_t p = position_.empty() ? shape.context - 1 : Uniform(rng_, 0, shape.context - 1);
      if (!taken.insert({s, p}).second) continue;
      sequence_.push_back(s);
      position_.push_back(p);
    }
    q_ = Normal(rng_, int64_t{shape.tokens} * shape.heads * shape.head_dim);
  }
  std::string Shape() const override {
    return "T=" + std::to_string(shape_.tokens) + " A=" + std::to_string(shape_.heads) +
           " G=" + std::to_string(shape_.kv_heads) + " C=" + std::to_string(shape_.head_dim) +
           " P=" + std::to_string(shape_.block_size) + " context " + std::to_string(shape_.context);
  }
  int32_t RowCount() const override { return shape_.tokens; }
  Limits NeededLimits() const override {
    return {.max_tokens = shape_.tokens, .max_context = shape_.context, .heads = shape_.heads};
  }

 protected:
  int64_t CacheSize() const {
    return int64_t{kLayers} * blocks_ * shape_.kv_heads * shape_.block_size * shape_.head_dim;
  }
  // Offset of a slot of one key/value head.
  int64_t Slot(int32_t s, int32_t p, int32_t g) const {
    const int64_t block = table_[s * stride_ + p / shape_.block_size];
    return (((int64_t{kLayer} * blocks_ + block) * shape_.kv_heads + g) * shape_.block_size +
            p % shape_.block_size) *
           shape_.head_dim;
  }
  RowMap PutRows(Device& device, const Rows& rows) const {
    return {.tokens = static_cast<int32_t>(rows.size()),
            .position = device.Put(Gather(position_, 1, rows)),
            .sequence = device.Put(Gather(sequence_, 1, rows)),
            .block_table = device.Put(table_),
            .table_stride = stride_};
  }
  KvCache CacheOf(float* keys, float* values) const {
    return {keys, values, blocks_, shape_.block_size, shape_.kv_heads, shape_.head_dim};
  }

  AttentionShape shape_;
  Rng rng_;
  int32_t stride_;
  int32_t blocks_;
  std::vector<int32_t> table_;
  std::vector<int32_t> position_;
  std::vector<int32_t> sequence_;
  std::vector<float> q_;
};

class RopeStoreCase final : public PagedCase {
 public:
  explicit RopeStoreCase(const AttentionShape& shape) : PagedCase(shape) {
    const int64_t width = int64_t{shape.kv_heads} * shape.head_dim;
    k_ = Normal(rng_, shape.tokens * width);
    v_ = Normal(rng_, shape.tokens * width);
    for (int32_t p = 0; p < shape.context; ++p) {
      for (int32_t f = 0; f < shape.head_dim / 2; ++f) {
        const double angle = p * std::pow(1e4, -2.0 * f / shape.head_dim);
        cos_.push_back(static_cast<float>(std::cos(angle)));
        sin_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
  std::string Op() const override { return "RopeStore"; }

  // A row's values: q, then k and v as found in the cache. Every other slot must stay as it was.
  OpOutput Run(Backend& backend, const Rows& rows) const override {
    Device device(backend);
    const int64_t head_dim = shape_.head_dim;
    const int64_t q_width = shape_.heads * head_dim;
    const int64_t kv_width = shape_.kv_heads * head_dim;
    float* q = device.Put(Gather(q_, q_width, rows));
    float* keys = device.Fresh<float>(CacheSize());
    float* values = device.Fresh<float>(CacheSize());
    backend.RopeStore({.rows = PutRows(device, rows),
                       .layer = kLayer,
                       .heads = shape_.heads,
                       .cos = device.Put(cos_),
                       .sin = device.Put(sin_),
                       .q = q,
                       .k = device.Put(Gather(k_, kv_width, rows)),
                       .v = device.Put(Gather(v_, kv_width, rows)),
                       .cache = CacheOf(keys, values)});
    const std::vector<float> got_q = device.Get(q, rows.size() * q_width);
    const std::vector<float> cache[2] = {device.Get(keys, CacheSize()),
                                         device.Get(values, CacheSize())};
    OpOutput out{q_width + 2 * kv_width, {}};
    for (size_t n = 0; n < rows.size(); ++n) {
      out.values.insert(out.values.end(), got_q.begin() + n * q_width,
                        got_q.begin() + (n + 1) * q_width);
      for (const std::vector<float>& part : cache) {
        for (int32_t g = 0; g < shape_.kv_heads; ++g) {
          const auto from = part.begin() + Slot(sequence_[rows[n]], position_[rows[n]], g);
          out.values.insert(out.values.end(), from, from + head_dim);
        }
      }
    }
    for (const std::vector<float>& part : cache) {
      const int64_t written =
          std::count_if(part.begin(), part.end(), [](float value) { return !std::isnan(value); });
      EXPECT_EQ(written, static_cast<int64_t>(rows.size()) * kv_width) << "slots written";
    }
    return out;
  }
  std::vector<double> Tolerance(const OpOutput& expected) const override {
    std::vector<double> tolerance;
    const int64_t rotated = (int64_t{shape_.heads} + shape_.kv_heads) * shape_.head_dim;
    for (size_t n = 0; n < expected.values.size(); ++n) {
      const int64_t at = static_cast<int64_t>(n) % expected.width;
      // Two products and a sum; operands are below 8 in size.
      tolerance.push_back(at < rotated ? 8 * 3 * kEps : 0.0);
    }
    return tolerance;
  }

 private:
  std::vector<float> k_, v_;
  std::vector<float> cos_, sin_;
};

class AttentionCase final : public PagedCase {
 public:
  explicit AttentionCase(const AttentionShape& shape) : PagedCase(shape) {
    keys_ = Normal(rng_, CacheSize());
    values_ = Normal(rng_, CacheSize());
  }
  std::string Op() const override { return "Attention"; }

  // Slots that none of the rows may see hold NaN.
  OpOutput Run(Backend& backend, const Rows& rows) const override {
    return RunWith(backend, rows, values_);
  }

  std::vector<double> Tolerance(const OpOutput&) const override {
    std::vector<float> magnitudes = values_;
    for (float& value : magnitudes) value = std::abs(value);
    const auto reference = MakeReferenceBackend();
    const OpOutput sum = RunWith(*reference, AllRows(*this), magnitudes);
    // A score is off by its roundings times |q||k|; a weight by twice that, relatively, since the
    // total moves too; then come exp, the total, the sum over positions and the last product.
    const double largest = 6.0 * std::sqrt(static_cast<double>(shape_.head_dim));
    const double score = DotRoundings(shape_.head_dim) * largest;
    const double rest = shape_.context * (1.0 + 1.0 / 16) + 24;
    std::vector<double> tolerance;
    for (const float value : sum.values) tolerance.push_back(value * kEps * (2 * score + rest));
    return tolerance;
  }

 private:
  OpOutput RunWith(Backend& backend, const Rows& rows, const std::vector<float>& values) const {
    Device device(backend);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> seen_keys(CacheSize(), nan);
    std::vector<float> seen_values(CacheSize(), nan);
    for (const int32_t row : rows) {
      for (int32_t p = 0; p <= position_[row]; ++p) {
        for (int32_t g = 0; g < shape_.kv_heads; ++g) {
          const int64_t at = Slot(sequence_[row], p, g);
          std::copy_n(keys_.begin() + at, shape_.head_dim, seen_keys.begin() + at);
          std::copy_n(values.begin() + at, shape_.head_dim, seen_values.begin() + at);
        }
      }
    }
    const int64_t width = int64_t{shape_.heads} * shape_.head_dim;
    float* out = device.Fresh<float>(rows.size() * width);
    backend.Attention({.rows = PutRows(device, rows),
                       .layer = kLayer,
                       .heads = shape_.heads,
                       .q = device.Put(Gather(q_, width, rows)),
                       .cache = CacheOf(device.Put(seen_keys), device.Put(seen_values)),
                       .out = out});
    return {width, device.Get(out, rows.size() * width)};
  }

  std::vector<float> keys_, values_;
};

}  // namespace

void AddAttentionCases(CaseList* cases) {
  const AttentionShape shapes[] = {
      {1, 1, 1, 2, 1, 1, 1},       {1, 2, 2, 16, 16, 1, 1},    {5, 2, 1, 6, 4, 2, 9},
      {9, 6, 2, 20, 5, 3, 31},     {3, 4, 4, 64, 16, 1, 49},   {17, 3, 1, 34, 16, 4, 70},
      {2, 12, 12, 128, 16, 2, 33}, {4, 2, 2, 130, 32, 2, 200}, {64, 2, 1, 8, 8, 7, 24},
  };
  for (const AttentionShape& shape : shapes) {
    cases->push_back(std::make_unique<RopeStoreCase>(shape));
    cases->push_back(std::make_unique<AttentionCase>(shape));
  }
}

}  // namespace monet::kernels::testing
