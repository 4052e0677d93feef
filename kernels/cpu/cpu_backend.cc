#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/mask_touch.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cpu/workspace.h"

namespace monet::kernels {
namespace {

constexpr int64_t kWeightsPerItem = 32768;  // of a dense product: some tens of microseconds
constexpr int64_t kColumnStep = 128;        // expert down: whole tiles of every instruction set

const KernelTable& TableOf(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return Avx512Kernels();
  if (isa == Isa::kAvx2) return Avx2Kernels();
#endif
  (void)isa;
  return GenericKernels();
}

const char* NameOf(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "generic";
  }
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(Isa isa, int32_t threads)
      : kernels_(TableOf(isa)),
        pool_(threads),
        description_(std::string(NameOf(isa)) + ", " + std::to_string(threads) +
                     (threads == 1 ? " thread" : " threads")) {}

  const char* Name() const override { return "cpu"; }
  // All instruction sets give the same bits.
  const char* NumericsId() const override { return "cpu-f32x16-1"; }
  const char* Description() const override { return description_.c_str(); }

  bool Prepare(const Limits& limits) override { return space_.Allocate(limits, pool_.threads()); }

  void* Alloc(size_t bytes) override { return AllocateAligned(bytes); }
  void Free(void* ptr) override { FreeAligned(ptr); }
  void CopyIn(void* device, const void* host, size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void CopyOut(void* host, const void* device, size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void Synchronize() override {}

  void Embed(const EmbedArgs& args) override {
    const FlushDenormals flush;
    kernels_.embed(args, 0, args.tokens);
  }

  void RmsNorm(const RmsNormArgs& args) override {
    const FlushDenormals flush;
    ForRows(args.tokens, args.hidden,
            [&](int64_t begin, int64_t end) { kernels_.rms_norm(args, begin, end); });
  }

  void MatMul(const MatMulArgs& args) override {
    const FlushDenormals flush;
    const int64_t step = ColumnsPerItem(args.weight.cols);
    const int64_t columns = args.weight.rows;
    pool_.For((columns + step - 1) / step, [&](int64_t item, int32_t) {
      kernels_.mat_mul(args, item * step, std::min(columns, (item + 1) * step));
    });
  }

  void RopeStore(const RopeStoreArgs& args) override {
    const FlushDenormals flush;
    const int64_t width = (int64_t{args.heads} + 2 * args.cache.kv_heads) * args.cache.head_dim;
    ForRows(args.rows.tokens, width,
            [&](int64_t begin, int64_t end) { kernels_.rope_store(args, begin, end); });
  }

  void Attention(const AttentionArgs& args) override {
    const FlushDenormals flush;
    pool_.For(int64_t{args.rows.tokens} * args.heads, [&](int64_t item, int32_t thread) {
      kernels_.attention(args, item / args.heads, item % args.heads,
                         space_.scores.get() + int64_t{thread} * space_.limits.max_context);
    });
  }

  void Route(const RouteArgs& args) override;
  void RemovedWeight(const RemovedWeightArgs& args) override;
  void Experts(const ExpertArgs& args) override;

 private:
  static int64_t ColumnsPerItem(int64_t cols) {
    return std::max<int64_t>(8, kWeightsPerItem / std::max<int64_t>(1, cols) / 8 * 8);
  }

  // Splits rows of `width` floats into ranges worth a thread's while.
  template <typename Body>
  void ForRows(int64_t rows, int64_t width, const Body& body) {
    constexpr int64_t kFloatsPerItem = 16384;
    const int64_t step = std::max<int64_t>(1, kFloatsPerItem / std::max<int64_t>(1, width));
    pool_.For((rows + step - 1) / step,
              [&](int64_t item, int32_t) { body(item * step, std::min(rows, (item + 1) * step)); });
  }

  // Fills offset, list and used of one side; returns used experts.
  int64_t GroupRows(const ExpertArgs& args, int64_t side, RowsByExpert* out, int32_t* used);
  // The touched indices of one row, in the thread's scratch.
  MaskTouch TouchOf(const ExpertArgs& args, int64_t row, int32_t thread);
  void Down(const ExpertArgs& args, const ExpertWork& work);

  const KernelTable& kernels_;
  ThreadPool pool_;
  Workspace space_;
  std::string description_;
};

void CpuBackend::Route(const RouteArgs& args) {
  const FlushDenormals flush;
  const int64_t columns = args.w1.rows;
  float* logits = space_.logits.get();
  const MatMulArgs sides[2] = {
      {.x = args.x, .weight = args.w1, .tokens = args.tokens, .out = logits},
      {.x = args.x,
       .weight = args.w2,
       .tokens = args.tokens,
       .out = logits + args.tokens * columns}};
  const int64_t step = ColumnsPerItem(args.w1.cols);
  const int64_t items = (columns + step - 1) / step;
  pool_.For(2 * items, [&](int64_t item, int32_t) {
    const int64_t begin = item % items * step;
    kernels_.mat_mul(sides[item / items], begin, std::min(columns, begin + step));
  });
  pool_.For(int64_t{args.tokens} * 2, [&](int64_t item, int32_t thread) {
    const int64_t row = item / 2;
    const int64_t side = item % 2;
    kernels_.route(args, sides[side].out + row * columns, row, side,
                   space_.flags.get() + int64_t{thread} * 2 * space_.limits.experts);
  });
}

void CpuBackend::RemovedWeight(const RemovedWeightArgs& args) {
  const FlushDenormals flush;
  if (args.masks.slot == nullptr) return;
  const Routing& routing = args.routing;
  const int64_t experts = args.experts;
  for (int64_t t = 0; t < args.tokens; ++t) {
    if (args.masks.slot[t] < 0) continue;
    const uint8_t* bitmap =
        args.masks.bitmaps +
        (int64_t{args.masks.slot[t]} * args.masks.routers + args.router) * args.masks.bytes;
    float sum = 0;
    for (int64_t h = 0; h < args.routing_heads; ++h) {
      const int64_t list1 = t * 2 * args.routing_heads + h;
      const int64_t list2 = list1 + args.routing_heads;
      for (int64_t n1 = list1 * experts; n1 < list1 * experts + routing.count[list1]; ++n1) {
        const int64_t row = routing.index[n1] * experts;
        float inner = 0;
        for (int64_t n2 = list2 * experts; n2 < list2 * experts + routing.count[list2]; ++n2) {
          const int64_t expert = row + routing.index[n2];
          if ((bitmap[expert / 8] >> (expert % 8)) & 1) inner += routing.gate[n2];
        }
        sum += routing.gate[n1] * inner;
      }
    }
    args.removed[t] += sum;
  }
}

int64_t CpuBackend::GroupRows(const ExpertArgs& args, int64_t side, RowsByExpert* out,
                              int32_t* used) {
  const int64_t experts = args.experts;
  int32_t* offset = space_.offset.get() + side * (experts + 1);
  int32_t* list = space_.list.get() + side * args.tokens * experts;
  std::fill_n(offset, experts + 1, 0);
  const auto for_each = [&](const auto& body) {
    for (int32_t t = 0; t < args.tokens; ++t) {
      const int64_t at = int64_t{t} * 2 + side;
      const uint16_t* active = args.routing.active + at * experts;
      for (int32_t n = 0; n < args.routing.active_count[at]; ++n) body(t, active[n]);
    }
  };
  for_each([&](int32_t, uint16_t e) { ++offset[e + 1]; });
  int64_t used_count = 0;
  for (int64_t e = 0; e < experts; ++e) {
    if (offset[e + 1] > 0) used[used_count++] = static_cast<int32_t>(e);
    offset[e + 1] += offset[e];
  }
  // offset[e] runs to the end of e's rows while they are filled in, which is where e + 1 begins.
  for_each([&](int32_t t, uint16_t e) { list[offset[e]++] = t; });
  std::copy_backward(offset, offset + experts, offset + experts + 1);
  offset[0] = 0;
  *out = {.offset = offset, .list = list};
  return used_count;
}

MaskTouch CpuBackend::TouchOf(const ExpertArgs& args, int64_t row, int32_t thread) {
  if (args.masks.slot == nullptr || args.masks.slot[row] < 0) return {};
  const uint8_t* bitmap =
      args.masks.bitmaps +
      (int64_t{args.masks.slot[row]} * args.masks.routers + args.router) * args.masks.bytes;
  const int64_t experts = args.experts;
  uint8_t* touched1 = space_.flags.get() + int64_t{thread} * 2 * space_.limits.experts;
  uint8_t* touched2 = touched1 + experts;
  uint64_t* scratch = space_.words.get() + thread * TouchWords(space_.limits.experts);
  const Routing& routing = args.routing;
  const uint16_t* active1 = routing.active + row * 2 * experts;
  const bool any =
      FindTouched(bitmap, experts, active1, routing.active_count[row * 2], active1 + experts,
                  routing.active_count[row * 2 + 1], scratch, touched1, touched2);
  if (!any) return {};
  return {.bitmap = bitmap, .side = {touched1, touched2}};
}

void CpuBackend::Down(const ExpertArgs& args, const ExpertWork& work) {
  const bool vertical = args.weights.decompose == Decompose::kVertical;
  const int64_t sides = vertical ? 2 : 1;
  const int64_t outputs = vertical ? args.hidden / 2 : args.hidden;
  // Few rows: long runs of memory a thread; many rows: a block's columns stay in the cache.
  const int64_t most = args.tokens <= 2 ? 512 : 256;
  const int64_t even = outputs * sides / (2 * pool_.threads()) / kColumnStep * kColumnStep;
  const int64_t step = std::clamp(even, kColumnStep, most);
  const int64_t items = (outputs + step - 1) / step;
  pool_.For(sides * items, [&](int64_t item, int32_t) {
    const int64_t begin = item % items * step;
    const int64_t side = vertical ? item / items : 1;
    kernels_.expert_down(args, work, side, begin, std::min(outputs, begin + step));
  });
}

void CpuBackend::Experts(const ExpertArgs& args) {
  const FlushDenormals flush;
  const bool vertical = args.weights.decompose == Decompose::kVertical;
  ExpertWork work{
      .act = space_.act.get(),
      .act_stride = ActStride(vertical ? args.moe_dim / 2 : args.moe_dim),
      .act_sides = vertical ? 2 : 1,
      .coef = space_.coef.get(),
      .sums = space_.sums.get(),
  };
  int32_t* used = space_.used.get();
  const int64_t used1 = GroupRows(args, 0, &work.rows[0], used);
  const int64_t used2 = GroupRows(args, 1, &work.rows[1], used + used1);
  pool_.For(vertical ? used1 + used2 : used1, [&](int64_t item, int32_t) {
    kernels_.expert_up(args, work, item < used1 ? 0 : 1, used[item]);
  });
  pool_.For(args.tokens, [&](int64_t row, int32_t thread) {
    kernels_.expert_mix(args, work, TouchOf(args, row, thread), row,
                        space_.mixed.get() + thread * space_.mixed_floats);
  });
  Down(args, work);
}

}  // namespace

bool CpuHas(Isa isa) {
  switch (isa) {
    case Isa::kAuto:
    case Isa::kGeneric:
      return true;
#if defined(__x86_64__)
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    default:
      return false;
  }
}

std::unique_ptr<Backend> MakeCpuBackend(const CpuOptions& options) {
  Isa isa = options.isa;
  if (isa == Isa::kAuto) {
    isa = CpuHas(Isa::kAvx512) ? Isa::kAvx512 : CpuHas(Isa::kAvx2) ? Isa::kAvx2 : Isa::kGeneric;
  }
  if (!CpuHas(isa)) return nullptr;
  return std::make_unique<CpuBackend>(isa, std::max(1, options.threads));
}

}  // namespace monet::kernels
