// The expert layer as a sum over the kept pairs of active indices:
//   W_ij = keep_ij Σ_h g1_hi g2_hj,  r_i = Σ_j W_ij,  c_j = Σ_i W_ij
//   vertical:   left  = v11·(r⊙a1) + v12·(W a2) + b1ᵀ r
//               right = v21·(Wᵀ a1) + v22·(c⊙a2) + b2ᵀ c
//   horizontal: out   = v·(Wᵀ a) + bᵀ c
#include <vector>

#include "kernels/reference/reference_ops.h"

namespace monet::kernels::reference {
namespace {

// One token's view of one side: what the other side's activations, weighted by W, sum to.
struct Side {
  int64_t units = 0;          // inner units of an expert on this side; 0: the side has none
  std::vector<double> act;    // (E, units) relu(u x + bias)² of the active experts
  std::vector<double> mixed;  // (E, units of the other side) W a2, or Wᵀ a1
  std::vector<double> total;  // (E) r, or c
};

double SquaredRelu(double v) { return v < 0 ? 0 : v * v; }

void Up(const ExpertArgs& args, int64_t t, int64_t side, const ExpertUp& up, Side* out) {
  const float* x = args.x + t * args.hidden;
  out->act.assign(args.experts * out->units, 0.0);
  const int64_t list = t * 2 + side;
  for (int32_t n = 0; n < args.routing.active_count[list]; ++n) {
    const int64_t e = args.routing.active[list * args.experts + n];
    for (int64_t q = 0; q < out->units; ++q) {
      const int64_t row = e * out->units + q;
      double sum = 0;
      for (int64_t d = 0; d < args.hidden; ++d) {
        sum += x[d] * WeightAt(up.weight.data, up.weight.dtype, row * args.hidden + d);
      }
      out->act[row] = SquaredRelu(sum + up.bias[row]);
    }
  }
}

void Mix(const ExpertArgs& args, int32_t t, Side* first, Side* second) {
  const int64_t heads = args.routing_heads;
  const int64_t experts = args.experts;
  first->mixed.assign(experts * second->units, 0.0);
  first->total.assign(experts, 0.0);
  second->mixed.assign(experts * first->units, 0.0);
  second->total.assign(experts, 0.0);
  const Routing& routing = args.routing;
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t list1 = t * 2 * heads + h;
    const int64_t list2 = list1 + heads;
    for (int32_t n1 = 0; n1 < routing.count[list1]; ++n1) {
      for (int32_t n2 = 0; n2 < routing.count[list2]; ++n2) {
        const int64_t i = routing.index[list1 * experts + n1];
        const int64_t j = routing.index[list2 * experts + n2];
        if (Removed(args.masks, args.router, t, i, j, args.experts)) continue;
        const double w = static_cast<double>(routing.gate[list1 * experts + n1]) *
                         routing.gate[list2 * experts + n2];
        first->total[i] += w;
        second->total[j] += w;
        for (int64_t q = 0; q < second->units; ++q) {
          first->mixed[i * second->units + q] += w * second->act[j * second->units + q];
        }
        for (int64_t q = 0; q < first->units; ++q) {
          second->mixed[j * first->units + q] += w * first->act[i * first->units + q];
        }
      }
    }
  }
}

// out[n] += Σ over the active blocks of coefficient(e, unit) · weight; `coefficients` is (E, M+1).
void Down(const ExpertArgs& args, int64_t t, int64_t side, const ExpertDown& down, int64_t outputs,
          const std::vector<double>& coefficients, double* out) {
  const int64_t units = args.moe_dim + 1;
  const int64_t list = t * 2 + side;
  for (int32_t n = 0; n < args.routing.active_count[list]; ++n) {
    const int64_t e = args.routing.active[list * args.experts + n];
    for (int64_t q = 0; q < units; ++q) {
      for (int64_t o = 0; o < outputs; ++o) {
        out[o] += coefficients[e * units + q] *
                  WeightAt(down.blocks, down.dtype, (e * units + q) * outputs + o);
      }
    }
  }
}

void Vertical(const ExpertArgs& args, int32_t t, double* out) {
  const int64_t half = args.moe_dim / 2;
  const int64_t units = args.moe_dim + 1;
  Side first{.units = half};
  Side second{.units = half};
  Up(args, t, 0, args.weights.up1, &first);
  Up(args, t, 1, args.weights.up2, &second);
  Mix(args, t, &first, &second);
  std::vector<double> left(args.experts * units);   // (E, M+1): r⊙a1, W a2, r
  std::vector<double> right(args.experts * units);  // (E, M+1): Wᵀ a1, c⊙a2, c
  for (int64_t e = 0; e < args.experts; ++e) {
    for (int64_t q = 0; q < half; ++q) {
      left[e * units + q] = first.total[e] * first.act[e * half + q];
      left[e * units + half + q] = first.mixed[e * half + q];
      right[e * units + q] = second.mixed[e * half + q];
      right[e * units + half + q] = second.total[e] * second.act[e * half + q];
    }
    left[e * units + args.moe_dim] = first.total[e];
    right[e * units + args.moe_dim] = second.total[e];
  }
  const int64_t outputs = args.hidden / 2;
  Down(args, t, 0, args.weights.down1, outputs, left, out);
  Down(args, t, 1, args.weights.down2, outputs, right, out + outputs);
}

void Horizontal(const ExpertArgs& args, int32_t t, double* out) {
  const int64_t units = args.moe_dim + 1;
  Side first{.units = args.moe_dim};
  Side second;
  Up(args, t, 0, args.weights.up1, &first);
  Mix(args, t, &first, &second);
  std::vector<double> coefficients(args.experts * units);  // (E, M+1): Wᵀ a, c
  for (int64_t e = 0; e < args.experts; ++e) {
    for (int64_t q = 0; q < args.moe_dim; ++q) {
      coefficients[e * units + q] = second.mixed[e * args.moe_dim + q];
    }
    coefficients[e * units + args.moe_dim] = second.total[e];
  }
  Down(args, t, 1, args.weights.down2, args.hidden, coefficients, out);
}

}  // namespace

void Experts(const ExpertArgs& args) {
  std::vector<double> sums(args.hidden);
  for (int32_t t = 0; t < args.tokens; ++t) {
    sums.assign(args.hidden, 0.0);
    if (args.weights.decompose == Decompose::kVertical) {
      Vertical(args, t, sums.data());
    } else {
      Horizontal(args, t, sums.data());
    }
    for (int64_t d = 0; d < args.hidden; ++d) {
      const int64_t at = t * int64_t{args.hidden} + d;
      args.out[at] = static_cast<float>(args.residual[at] + sums[d]);
    }
  }
}

}  // namespace monet::kernels::reference
