#include "tests/kernels/expert_fixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

namespace monet::kernels::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Block e of side `first`: rows of `a` (and `b`, when given), then the bias.
struct BlockParts {
  const std::vector<float>* a = nullptr;     // (N, E·units)
  const std::vector<float>* b = nullptr;     // (N, E·units) or null
  const std::vector<float>* bias = nullptr;  // (E, N)
  int64_t outputs = 0;
  int64_t units = 0;
};

std::vector<float> Pack(const BlockParts& parts, int64_t experts, const std::vector<bool>& active,
                        int64_t first) {
  std::vector<float> packed;
  for (int64_t e = 0; e < experts; ++e) {
    const bool readable = active[first + e];
    for (const std::vector<float>* v : {parts.a, parts.b}) {
      if (v == nullptr) continue;
      for (int64_t q = 0; q < parts.units; ++q) {
        for (int64_t o = 0; o < parts.outputs; ++o) {
          packed.push_back(readable ? (*v)[o * experts * parts.units + e * parts.units + q] : kNaN);
        }
      }
    }
    for (int64_t o = 0; o < parts.outputs; ++o) {
      packed.push_back(readable ? (*parts.bias)[e * parts.outputs + o] : kNaN);
    }
  }
  return packed;
}

ExpertUp PutUp(Device& device, const std::vector<float>& u, const std::vector<float>& bias,
               int64_t hidden, DType dtype, const std::vector<bool>& active, int64_t first) {
  const int64_t rows = static_cast<int64_t>(bias.size());
  const int64_t experts = static_cast<int64_t>(active.size()) / 2;
  WeightData weight{dtype, u};
  std::vector<float> readable_bias = bias;
  for (int64_t row = 0; row < rows; ++row) {
    if (active[first + row / (rows / experts)]) continue;
    std::fill_n(weight.values.begin() + row * hidden, hidden, kNaN);
    readable_bias[row] = kNaN;
  }
  return {.weight = {PutWeight(device, weight), dtype, rows, hidden},
          .bias = device.Put(readable_bias)};
}

void MakePositive(std::vector<float>* values) {
  for (float& value : *values) value = std::abs(value);
}

}  // namespace

std::vector<uint16_t> RoutingData::Active(int64_t t, int64_t side) const {
  std::set<uint16_t> all;
  for (int64_t h = 0; h < heads; ++h) {
    all.insert(index[ListAt(t, side, h)].begin(), index[ListAt(t, side, h)].end());
  }
  return {all.begin(), all.end()};
}

std::vector<double> RoutingData::Dense(int64_t t, int64_t side) const {
  std::vector<double> dense(int64_t{heads} * experts, 0.0);
  for (int64_t h = 0; h < heads; ++h) {
    const size_t at = ListAt(t, side, h);
    for (size_t n = 0; n < index[at].size(); ++n) dense[h * experts + index[at][n]] = gate[at][n];
  }
  return dense;
}

RoutingData RandomRouting(Rng& rng, int32_t tokens, int32_t heads, int32_t experts,
                          int32_t most_kept) {
  RoutingData routing{.tokens = tokens, .heads = heads, .experts = experts};
  std::vector<uint16_t> all(experts);
  std::iota(all.begin(), all.end(), uint16_t{0});
  for (int32_t list = 0; list < tokens * 2 * heads; ++list) {
    std::shuffle(all.begin(), all.end(), rng);
    std::vector<uint16_t> index(all.begin(), all.begin() + Uniform(rng, 1, most_kept));
    std::sort(index.begin(), index.end());
    std::vector<float> gate = Normal(rng, index.size());
    double total = 0;
    for (float& g : gate) total += g = std::exp(g);
    for (float& g : gate) g = static_cast<float>(g / total);
    routing.index.push_back(index);
    routing.gate.push_back(gate);
  }
  return routing;
}

Routing PutRouting(Device& device, const RoutingData& routing, const Rows& rows) {
  std::vector<int32_t> count, active_count;
  std::vector<uint16_t> index, active;
  std::vector<float> gate;
  for (const int32_t t : rows) {
    for (int64_t side = 0; side < 2; ++side) {
      for (int64_t h = 0; h < routing.heads; ++h) {
        const size_t at = routing.ListAt(t, side, h);
        count.push_back(static_cast<int32_t>(routing.index[at].size()));
        index.insert(index.end(), routing.index[at].begin(), routing.index[at].end());
        gate.insert(gate.end(), routing.gate[at].begin(), routing.gate[at].end());
        index.resize(count.size() * routing.experts, 0xffff);
        gate.resize(count.size() * routing.experts, kNaN);
      }
      const std::vector<uint16_t> all = routing.Active(t, side);
      active_count.push_back(static_cast<int32_t>(all.size()));
      active.insert(active.end(), all.begin(), all.end());
      active.resize(active_count.size() * routing.experts, 0xffff);
    }
  }
  return {.count = device.Put(count),
          .index = device.Put(index),
          .gate = device.Put(gate),
          .active_count = device.Put(active_count),
          .active = device.Put(active)};
}

const char* NameOf(MaskKind kind) {
  const char* names[] = {"no mask", "empty mask", "random30", "rows", "all", "mixed masks"};
  return names[static_cast<int>(kind)];
}

std::vector<bool> MaskData::RemovedOf(int64_t t) const {
  if (slot[t] < 0) return std::vector<bool>(int64_t{experts} * experts, false);
  return removed[slot[t]];
}

MaskData MakeMask(Rng& rng, MaskKind kind, int32_t tokens, int32_t experts) {
  MaskData masks{.experts = experts};
  const int64_t count = int64_t{experts} * experts;
  const auto random30 = [&] {
    std::vector<bool> removed(count);
    for (int64_t n = 0; n < count; ++n) removed[n] = Uniform(rng, 0, 99) < 30;
    return removed;
  };
  const auto rows = [&] {
    std::vector<bool> removed(count);
    for (int64_t n = 0; n < count; ++n) {
      removed[n] = n / experts < experts / 3 || n % experts >= (experts + 1) / 2;
    }
    return removed;
  };
  const std::vector<bool> none(count, false);
  const std::vector<bool> all(count, true);
  switch (kind) {
    case MaskKind::kNone:
    case MaskKind::kEmpty:
      masks.removed = {none};
      break;
    case MaskKind::kRandom30:
      masks.removed = {random30()};
      break;
    case MaskKind::kRows:
      masks.removed = {rows()};
      break;
    case MaskKind::kAll:
      masks.removed = {all};
      break;
    case MaskKind::kMixed:
      masks.removed = {random30(), all, rows(), none, random30()};
      break;
  }
  const int32_t slots = static_cast<int32_t>(masks.removed.size());
  for (int32_t t = 0; t < tokens; ++t) {
    masks.slot.push_back(kind == MaskKind::kNone    ? -1
                         : kind == MaskKind::kMixed ? (t + 1) % (slots + 1) - 1
                                                    : 0);
  }
  return masks;
}

MaskTable PutMask(Device& device, const MaskData& masks, const Rows& rows) {
  const int64_t count = int64_t{masks.experts} * masks.experts;
  const int32_t bytes = static_cast<int32_t>((count + 7) / 8);
  std::vector<uint8_t> bitmaps;
  for (const std::vector<bool>& removed : masks.removed) {
    for (int32_t router = 0; router < MaskData::kRouters; ++router) {
      const size_t start = bitmaps.size();
      bitmaps.resize(start + bytes, 0);
      for (int64_t n = 0; n < count; ++n) {
        if (removed[n] == (router == MaskData::kRouter)) bitmaps[start + n / 8] |= 1 << (n % 8);
      }
    }
  }
  return {.bitmaps = device.Put(bitmaps),
          .routers = MaskData::kRouters,
          .bytes = bytes,
          .slot = device.Put(Gather(masks.slot, 1, rows))};
}

std::string ToString(const ExpertShape& shape) {
  return std::string(shape.decompose == Decompose::kVertical ? "VD" : "HD") +
         " T=" + std::to_string(shape.tokens) + " D=" + std::to_string(shape.hidden) +
         " H=" + std::to_string(shape.heads) + " E=" + std::to_string(shape.experts) +
         " M=" + std::to_string(shape.moe_dim) + " kept<=" + std::to_string(shape.most_kept) + " " +
         NameOf(shape.dtype) + " " + NameOf(shape.mask) + (shape.in_place ? " in place" : "");
}

PublishedExperts RandomExperts(Rng& rng, const ExpertShape& shape) {
  PublishedExperts w{.decompose = shape.decompose,
                     .hidden = shape.hidden,
                     .experts = shape.experts,
                     .moe_dim = shape.moe_dim};
  const auto random = [&](int64_t rows, int64_t cols) {
    return RandomWeight(rng, shape.dtype, rows * cols, 0.5).values;
  };
  const int64_t e = shape.experts;
  if (shape.decompose == Decompose::kVertical) {
    const int64_t units = e * shape.moe_dim / 2;
    const int64_t half = shape.hidden / 2;
    w.u1 = random(units, shape.hidden);
    w.u2 = random(units, shape.hidden);
    w.u1_bias = Normal(rng, units);
    w.u2_bias = Normal(rng, units);
    for (std::vector<float>* v : {&w.v11, &w.v12, &w.v21, &w.v22}) *v = random(half, units);
    w.b1 = random(e, half);
    w.b2 = random(e, half);
  } else {
    w.u = random(e * shape.moe_dim, shape.hidden);
    w.u_bias = Normal(rng, e * shape.moe_dim);
    w.v = random(shape.hidden, e * shape.moe_dim);
    w.b = random(e, shape.hidden);
  }
  return w;
}

ExpertWeights PutExperts(Device& device, const PublishedExperts& w, DType dtype,
                         const std::vector<bool>& active) {
  const int64_t e = w.experts;
  ExpertWeights out{.decompose = w.decompose};
  const auto put_down = [&](const BlockParts& parts, int64_t first) {
    return ExpertDown{PutWeight(device, {dtype, Pack(parts, e, active, first)}), dtype};
  };
  if (w.decompose == Decompose::kVertical) {
    const int64_t half = w.hidden / 2;
    const int64_t units = w.moe_dim / 2;
    out.up1 = PutUp(device, w.u1, w.u1_bias, w.hidden, dtype, active, 0);
    out.up2 = PutUp(device, w.u2, w.u2_bias, w.hidden, dtype, active, e);
    out.down1 = put_down({&w.v11, &w.v12, &w.b1, half, units}, 0);
    out.down2 = put_down({&w.v21, &w.v22, &w.b2, half, units}, e);
  } else {
    out.up1 = PutUp(device, w.u, w.u_bias, w.hidden, dtype, active, 0);
    out.down2 = put_down({&w.v, nullptr, &w.b, w.hidden, w.moe_dim}, e);
  }
  return out;
}

ExpertLayer::ExpertLayer(const ExpertShape& layer_shape) : shape(layer_shape) {
  Rng rng(shape.tokens * 131 + shape.hidden * 17 + shape.experts * 3 + shape.moe_dim);
  weights = RandomExperts(rng, shape);
  routing = RandomRouting(rng, shape.tokens, shape.heads, shape.experts, shape.most_kept);
  masks = MakeMask(rng, shape.mask, shape.tokens, shape.experts);
  x = Normal(rng, int64_t{shape.tokens} * shape.hidden);
  residual = Normal(rng, int64_t{shape.tokens} * shape.hidden);
}

Limits ExpertLayer::NeededLimits() const {
  return {.max_tokens = shape.tokens,
          .hidden = shape.hidden,
          .routing_heads = shape.heads,
          .experts = shape.experts,
          .moe_dim = shape.moe_dim};
}

OpOutput ExpertLayer::Run(Backend& backend, const Rows& rows) const {
  Device device(backend);
  std::vector<bool> active(2 * shape.experts, false);
  for (const int32_t t : rows) {
    for (int64_t side = 0; side < 2; ++side) {
      for (const uint16_t e : routing.Active(t, side)) active[side * shape.experts + e] = true;
    }
  }
  const size_t count = rows.size() * shape.hidden;
  const std::vector<float> added = Gather(residual, shape.hidden, rows);
  float* out = shape.in_place ? device.Put(added) : device.Fresh<float>(count);
  backend.Experts({.x = device.Put(Gather(x, shape.hidden, rows)),
                   .routing = PutRouting(device, routing, rows),
                   .masks = PutMask(device, masks, rows),
                   .router = MaskData::kRouter,
                   .tokens = static_cast<int32_t>(rows.size()),
                   .hidden = shape.hidden,
                   .routing_heads = shape.heads,
                   .experts = shape.experts,
                   .moe_dim = shape.moe_dim,
                   .weights = PutExperts(device, weights, shape.dtype, active),
                   .residual = shape.in_place ? out : device.Put(added),
                   .out = out});
  return {shape.hidden, device.Get(out, count)};
}

ExpertLayer Magnitudes(const ExpertLayer& layer) {
  ExpertLayer positive = layer;
  PublishedExperts& w = positive.weights;
  for (std::vector<float>* values :
       {&w.u1, &w.u2, &w.u1_bias, &w.u2_bias, &w.v11, &w.v12, &w.v21, &w.v22, &w.b1, &w.b2, &w.u,
        &w.u_bias, &w.v, &w.b, &positive.x, &positive.residual}) {
    MakePositive(values);
  }
  std::fill(positive.masks.slot.begin(), positive.masks.slot.end(), -1);
  return positive;
}

double ExpertRoundings(const ExpertLayer& layer) {
  const ExpertShape& shape = layer.shape;
  const double up = 2 * (DotRoundings(shape.hidden) + 1) + 1;  // squared: twice the relative error
  const double mix = shape.most_kept + shape.heads + 2;
  size_t blocks = 0;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (int64_t side = 0; side < 2; ++side) {
      blocks = std::max(blocks, layer.routing.Active(t, side).size());
    }
  }
  return up + mix + static_cast<double>(blocks) * (shape.moe_dim + 1) + 1;
}

}  // namespace monet::kernels::testing
