// The expert layer as E² separate experts, from weights in their published layout: the oracle for
// masks, decompositions and packing. It shares no code with any backend and is only fit for tiny E.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace monet::kernels {

// One layer's experts as a checkpoint stores them.
struct PublishedExperts {
  Decompose decompose = Decompose::kVertical;
  int64_t hidden = 0;   // D
  int64_t experts = 0;  // E
  int64_t moe_dim = 0;  // M

  // vertical
  std::vector<float> u1, u2;            // (E·M/2, D)
  std::vector<float> u1_bias, u2_bias;  // (E·M/2)
  std::vector<float> v11, v12;          // (D/2, E·M/2)
  std::vector<float> v21, v22;          // (D/2, E·M/2)
  std::vector<float> b1, b2;            // (E, D/2)

  // horizontal
  std::vector<float> u;       // (E·M, D)
  std::vector<float> u_bias;  // (E·M)
  std::vector<float> v;       // (D, E·M)
  std::vector<float> b;       // (E, D)
};

// What expert (i, j) alone makes of x, unweighted: its M inner units and its bias.
//   vertical:   h = [relu(u1_i x + bias)²; relu(u2_j x + bias)²]
//               [v11_i h[:M/2] + v12_i h[M/2:] + b1_i | v21_j h[:M/2] + v22_j h[M/2:] + b2_j]
//   horizontal: v_j relu(u_i x + bias)² + b_j
std::vector<double> OneExpert(const PublishedExperts& weights, const float* x,  // (D)
                              int64_t i, int64_t j);

// Σ_ij keep_ij (Σ_h g1_hi g2_hj) expert_ij(x) for one token; without the residual.
std::vector<double> ExpertOracle(const PublishedExperts& weights,
                                 const float* x,                    // (D)
                                 const std::vector<double>& g1,     // (H, E) dense
                                 const std::vector<double>& g2,     // (H, E)
                                 const std::vector<bool>& removed,  // (E·E)
                                 int64_t routing_heads);

}  // namespace monet::kernels
