// Rotary embedding, the paged cache, and causal attention over it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_ops.h"

namespace monet::kernels::reference {
namespace {

// Offset in floats of key/value head g of position p of row t's sequence, in keys or values.
int64_t SlotOffset(const KvCache& cache, const RowMap& rows, int32_t layer, int32_t t, int64_t p,
                   int64_t g) {
  const int64_t sequence = rows.sequence[t];
  const int64_t block = rows.block_table[sequence * rows.table_stride + p / cache.block_size];
  const int64_t slot = p % cache.block_size;
  return (((int64_t{layer} * cache.blocks + block) * cache.kv_heads + g) * cache.block_size +
          slot) *
         cache.head_dim;
}

// Half-split rotation of one head: element f pairs with f + C/2.
void Rotate(const float* in, const float* cos, const float* sin, int64_t head_dim, float* out) {
  const int64_t half = head_dim / 2;
  for (int64_t f = 0; f < half; ++f) {
    const double a = in[f];
    const double b = in[f + half];
    out[f] = static_cast<float>(a * cos[f] - b * sin[f]);
    out[f + half] = static_cast<float>(b * cos[f] + a * sin[f]);
  }
}

}  // namespace

void RopeStore(const RopeStoreArgs& args) {
  const KvCache& cache = args.cache;
  const int64_t head_dim = cache.head_dim;
  for (int32_t t = 0; t < args.rows.tokens; ++t) {
    const int64_t position = args.rows.position[t];
    const float* cos = args.cos + position * (head_dim / 2);
    const float* sin = args.sin + position * (head_dim / 2);
    for (int64_t a = 0; a < args.heads; ++a) {
      float* q = args.q + (t * int64_t{args.heads} + a) * head_dim;
      Rotate(q, cos, sin, head_dim, q);
    }
    for (int64_t g = 0; g < cache.kv_heads; ++g) {
      const int64_t from = (t * int64_t{cache.kv_heads} + g) * head_dim;
      const int64_t to = SlotOffset(cache, args.rows, args.layer, t, position, g);
      Rotate(args.k + from, cos, sin, head_dim, cache.keys + to);
      std::copy_n(args.v + from, head_dim, cache.values + to);
    }
  }
}

void Attention(const AttentionArgs& args) {
  const KvCache& cache = args.cache;
  const int64_t head_dim = cache.head_dim;
  const int64_t group = args.heads / cache.kv_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  std::vector<double> weights;
  std::vector<double> sums;
  for (int32_t t = 0; t < args.rows.tokens; ++t) {
    const int64_t length = int64_t{args.rows.position[t]} + 1;
    for (int64_t a = 0; a < args.heads; ++a) {
      const float* q = args.q + (t * int64_t{args.heads} + a) * head_dim;
      weights.assign(length, 0.0);
      for (int64_t p = 0; p < length; ++p) {
        const float* key = cache.keys + SlotOffset(cache, args.rows, args.layer, t, p, a / group);
        for (int64_t c = 0; c < head_dim; ++c) {
          weights[p] += static_cast<double>(q[c]) * key[c];
        }
        weights[p] *= scale;
      }
      const double largest = *std::max_element(weights.begin(), weights.end());
      double total = 0;
      for (double& weight : weights) total += weight = std::exp(weight - largest);
      sums.assign(head_dim, 0.0);
      for (int64_t p = 0; p < length; ++p) {
        const float* value =
            cache.values + SlotOffset(cache, args.rows, args.layer, t, p, a / group);
        for (int64_t c = 0; c < head_dim; ++c) sums[c] += weights[p] * value[c];
      }
      float* out = args.out + (t * int64_t{args.heads} + a) * head_dim;
      for (int64_t c = 0; c < head_dim; ++c) out[c] = static_cast<float>(sums[c] / total);
    }
  }
}

}  // namespace monet::kernels::reference
