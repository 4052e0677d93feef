// Embedding, normalisation and dense products.
#include <cmath>
#include <vector>

#include "kernels/reference/reference_ops.h"

namespace monet::kernels::reference {

void Embed(const EmbedArgs& args) {
  const int64_t hidden = args.table.cols;
  for (int32_t t = 0; t < args.tokens; ++t) {
    const int64_t row = args.ids[t];
    for (int64_t d = 0; d < hidden; ++d) {
      args.out[t * hidden + d] =
          static_cast<float>(WeightAt(args.table.data, args.table.dtype, row * hidden + d));
    }
  }
}

void RmsNorm(const RmsNormArgs& args) {
  const int64_t hidden = args.hidden;
  for (int32_t t = 0; t < args.tokens; ++t) {
    const int64_t row = args.rows == nullptr ? t : args.rows[t];
    const float* x = args.x + row * hidden;
    double sum = 0;
    for (int64_t d = 0; d < hidden; ++d) sum += static_cast<double>(x[d]) * x[d];
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(hidden) + args.eps);
    for (int64_t d = 0; d < hidden; ++d) {
      args.out[t * hidden + d] = static_cast<float>(args.weight[d] * (x[d] * scale));
    }
  }
}

void MatMul(const MatMulArgs& args) {
  const int64_t n_count = args.weight.rows;
  const int64_t k_count = args.weight.cols;
  for (int64_t t = 0; t < args.tokens; ++t) {
    const float* x = args.x + t * k_count;
    for (int64_t n = 0; n < n_count; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < k_count; ++k) {
        sum += x[k] * WeightAt(args.weight.data, args.weight.dtype, n * k_count + k);
      }
      if (args.residual != nullptr) sum += args.residual[t * n_count + n];
      args.out[t * n_count + n] = static_cast<float>(sum);
    }
  }
}

}  // namespace monet::kernels::reference
