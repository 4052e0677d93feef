#include "kernels/reference/expert_oracle.h"

namespace monet::kernels {
namespace {

// relu(u x + bias)² of the units of one expert.
std::vector<double> Hidden(const std::vector<float>& u, const std::vector<float>& bias,
                           const float* x, int64_t expert, int64_t units, int64_t hidden) {
  std::vector<double> h;
  for (int64_t row = expert * units; row < (expert + 1) * units; ++row) {
    double sum = bias[row];
    for (int64_t d = 0; d < hidden; ++d) sum += static_cast<double>(u[row * hidden + d]) * x[d];
    h.push_back(sum < 0 ? 0 : sum * sum);
  }
  return h;
}

// out[o] += Σ_q v[o, expert·units + q] h[q], v being (outputs, E·units).
void AddProduct(const std::vector<float>& v, const std::vector<double>& h, int64_t expert,
                int64_t experts, int64_t outputs, double* out) {
  const int64_t units = static_cast<int64_t>(h.size());
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t q = 0; q < units; ++q) {
      out[o] += v[o * experts * units + expert * units + q] * h[q];
    }
  }
}

void AddBias(const std::vector<float>& b, int64_t expert, int64_t outputs, double* out) {
  for (int64_t o = 0; o < outputs; ++o) out[o] += b[expert * outputs + o];
}

}  // namespace

std::vector<double> OneExpert(const PublishedExperts& weights, const float* x, int64_t i,
                              int64_t j) {
  const int64_t hidden = weights.hidden;
  const int64_t experts = weights.experts;
  std::vector<double> out(hidden, 0.0);
  if (weights.decompose == Decompose::kHorizontal) {
    const auto h = Hidden(weights.u, weights.u_bias, x, i, weights.moe_dim, hidden);
    AddProduct(weights.v, h, j, experts, hidden, out.data());
    AddBias(weights.b, j, hidden, out.data());
    return out;
  }
  const int64_t outputs = hidden / 2;
  const auto h1 = Hidden(weights.u1, weights.u1_bias, x, i, weights.moe_dim / 2, hidden);
  const auto h2 = Hidden(weights.u2, weights.u2_bias, x, j, weights.moe_dim / 2, hidden);
  AddProduct(weights.v11, h1, i, experts, outputs, out.data());
  AddProduct(weights.v12, h2, i, experts, outputs, out.data());
  AddBias(weights.b1, i, outputs, out.data());
  AddProduct(weights.v21, h1, j, experts, outputs, out.data() + outputs);
  AddProduct(weights.v22, h2, j, experts, outputs, out.data() + outputs);
  AddBias(weights.b2, j, outputs, out.data() + outputs);
  return out;
}

std::vector<double> ExpertOracle(const PublishedExperts& weights, const float* x,
                                 const std::vector<double>& g1, const std::vector<double>& g2,
                                 const std::vector<bool>& removed, int64_t routing_heads) {
  const int64_t experts = weights.experts;
  std::vector<double> out(weights.hidden, 0.0);
  for (int64_t i = 0; i < experts; ++i) {
    for (int64_t j = 0; j < experts; ++j) {
      if (removed[i * experts + j]) continue;
      double weight = 0;
      for (int64_t h = 0; h < routing_heads; ++h) {
        weight += g1[h * experts + i] * g2[h * experts + j];
      }
      const std::vector<double> expert = OneExpert(weights, x, i, j);
      for (int64_t d = 0; d < weights.hidden; ++d) out[d] += weight * expert[d];
    }
  }
  return out;
}

}  // namespace monet::kernels
