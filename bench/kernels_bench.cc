// Dense products and expert layers at the shapes of Monet-850M, with weights that no cache holds.
// Times mean little on shared machines: compare rows of one run, and bytes_per_second with
// ReadMemory.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"

namespace monet::kernels {
namespace {

constexpr int32_t kHidden = 1536;
constexpr int32_t kHeads = 6;
constexpr int32_t kExperts = 512;
constexpr int32_t kMoeDim = 12;
constexpr int32_t kTopK = 8;
constexpr int32_t kMostTokens = 64;

std::unique_ptr<Backend> MakeBackend(int64_t threads) {
  auto backend = MakeCpuBackend({.threads = static_cast<int32_t>(threads)});
  backend->Prepare({.max_tokens = kMostTokens,
                    .max_context = 2048,
                    .hidden = kHidden,
                    .heads = 12,
                    .routing_heads = kHeads,
                    .experts = kExperts,
                    .moe_dim = kMoeDim});
  return backend;
}

// Memory of a backend for one benchmark.
class Operands {
 public:
  explicit Operands(Backend& backend) : backend_(backend) {}
  ~Operands() {
    for (void* ptr : all_) backend_.Free(ptr);
  }
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  float* Floats(size_t count) {
    float* to = static_cast<float*>(Raw(count * sizeof(float)));
    for (size_t n = 0; n < count; ++n) to[n] = static_cast<float>(n % 97) * 0.01f - 0.5f;
    return to;
  }
  void* Weights(size_t count, DType dtype) {
    if (dtype == DType::kF32) return Floats(count);
    uint16_t* to = static_cast<uint16_t*>(Raw(count * sizeof(uint16_t)));
    for (size_t n = 0; n < count; ++n) to[n] = static_cast<uint16_t>(0x3c00 + n % 251);
    return to;
  }
  template <typename T>
  T* Put(const std::vector<T>& host) {
    T* to = static_cast<T*>(Raw(host.size() * sizeof(T)));
    std::memcpy(to, host.data(), host.size() * sizeof(T));
    return to;
  }

 private:
  void* Raw(size_t bytes) {
    all_.push_back(backend_.Alloc(bytes));
    return all_.back();
  }
  Backend& backend_;
  std::vector<void*> all_;
};

// What memory gives to all threads together.
void ReadMemory(benchmark::State& state) {
  constexpr size_t kCount = size_t{64} << 20;
  const auto backend = MakeBackend(1);
  Operands operands(*backend);
  const float* data = operands.Floats(kCount);
  const int64_t threads = state.range(0);
  for (auto _ : state) {
    std::vector<std::thread> readers;
    for (int64_t n = 0; n < threads; ++n) {
      readers.emplace_back([=] {
        const size_t part = kCount / threads;
        uint64_t sum = 0;
        const char* from = reinterpret_cast<const char*>(data + n * part);
        for (size_t at = 0; at < part * sizeof(float); at += sizeof(sum)) {
          uint64_t word;
          std::memcpy(&word, from + at, sizeof(word));
          sum += word;
        }
        benchmark::DoNotOptimize(sum);
      });
    }
    for (std::thread& reader : readers) reader.join();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kCount * sizeof(float)));
}

void MatMul(benchmark::State& state) {
  const auto backend = MakeBackend(state.range(1));
  const auto tokens = static_cast<int32_t>(state.range(0));
  const DType dtype = state.range(2) != 0 ? DType::kBF16 : DType::kF32;
  constexpr int kMatrices = 24;
  const int64_t count = int64_t{kHidden} * kHidden;
  Operands operands(*backend);
  std::vector<Matrix> weights;
  for (int n = 0; n < kMatrices; ++n) {
    weights.push_back({operands.Weights(count, dtype), dtype, kHidden, kHidden});
  }
  MatMulArgs args{.x = operands.Floats(int64_t{tokens} * kHidden),
                  .tokens = tokens,
                  .out = operands.Floats(int64_t{tokens} * kHidden)};
  int next = 0;
  for (auto _ : state) {
    args.weight = weights[next++ % kMatrices];
    backend->MatMul(args);
  }
  state.SetBytesProcessed(state.iterations() * count * static_cast<int64_t>(SizeOf(dtype)));
  state.counters["flops"] = benchmark::Counter(
      2.0 * static_cast<double>(state.iterations() * count) * tokens, benchmark::Counter::kIsRate);
}

Routing RandomRouting(Operands& operands, int32_t tokens) {
  std::mt19937 rng(1);
  const size_t lists = size_t{2} * tokens * kHeads;
  std::vector<int32_t> count(lists, kTopK), active_count;
  std::vector<uint16_t> index(lists * kExperts, 0), active(size_t{2} * tokens * kExperts, 0);
  std::vector<float> gate(lists * kExperts, 1.0f / kTopK);
  std::vector<uint16_t> all(kExperts);
  std::iota(all.begin(), all.end(), uint16_t{0});
  for (int32_t side = 0; side < 2 * tokens; ++side) {
    std::vector<bool> used(kExperts, false);
    for (int32_t h = 0; h < kHeads; ++h) {
      std::shuffle(all.begin(), all.end(), rng);
      std::sort(all.begin(), all.begin() + kTopK);
      for (int32_t k = 0; k < kTopK; ++k) {
        index[(size_t{1} * side * kHeads + h) * kExperts + k] = all[k];
        used[all[k]] = true;
      }
    }
    active_count.push_back(0);
    for (int32_t e = 0; e < kExperts; ++e) {
      if (used[e]) active[side * kExperts + active_count.back()++] = static_cast<uint16_t>(e);
    }
  }
  return {operands.Put(count), operands.Put(index), operands.Put(gate), operands.Put(active_count),
          operands.Put(active)};
}

// A mask of its own for every row, a tenth of the experts removed at random.
MaskTable RandomMasks(Operands& operands, int32_t tokens, bool masked) {
  constexpr int32_t kBytes = kExperts * kExperts / 8;
  std::mt19937 rng(2);
  std::vector<uint8_t> bitmaps(size_t{1} * tokens * kBytes, 0);
  std::vector<int32_t> slot;
  for (int32_t t = 0; t < tokens; ++t) {
    slot.push_back(masked ? t : -1);
    for (int n = 0; n < kExperts * kExperts / 10; ++n) {
      const uint32_t expert = rng() % (kExperts * kExperts);
      bitmaps[size_t{1} * t * kBytes + expert / 8] |= 1 << (expert % 8);
    }
  }
  return {operands.Put(bitmaps), 1, kBytes, operands.Put(slot)};
}

// Rows and blocks that some row of the step needs.
int64_t UsedExperts(const Routing& routing, int32_t tokens, int64_t side) {
  std::vector<bool> used(kExperts, false);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int32_t n = 0; n < routing.active_count[t * 2 + side]; ++n) {
      used[routing.active[(t * 2 + side) * kExperts + n]] = true;
    }
  }
  return std::count(used.begin(), used.end(), true);
}

void Experts(benchmark::State& state) {
  const auto backend = MakeBackend(state.range(1));
  const auto tokens = static_cast<int32_t>(state.range(0));
  const DType dtype = state.range(2) != 0 ? DType::kBF16 : DType::kF32;
  constexpr int kLayers = 6;
  constexpr int64_t kUnits = kMoeDim / 2;
  Operands operands(*backend);
  std::vector<ExpertWeights> layers;
  for (int n = 0; n < kLayers; ++n) {
    const auto up = [&] {
      return ExpertUp{
          {operands.Weights(kExperts * kUnits * kHidden, dtype), dtype, kExperts * kUnits, kHidden},
          operands.Floats(kExperts * kUnits)};
    };
    const auto down = [&] {
      return ExpertDown{operands.Weights(kExperts * (kMoeDim + 1) * kHidden / 2, dtype), dtype};
    };
    layers.push_back({Decompose::kVertical, up(), up(), down(), down()});
  }
  const size_t width = size_t{1} * tokens * kHidden;
  ExpertArgs args{.x = operands.Floats(width),
                  .routing = RandomRouting(operands, tokens),
                  .masks = RandomMasks(operands, tokens, state.range(3) != 0),
                  .tokens = tokens,
                  .hidden = kHidden,
                  .routing_heads = kHeads,
                  .experts = kExperts,
                  .moe_dim = kMoeDim,
                  .residual = operands.Floats(width),
                  .out = operands.Floats(width)};
  int next = 0;
  for (auto _ : state) {
    args.weights = layers[next++ % kLayers];
    backend->Experts(args);
  }
  const int64_t used = UsedExperts(args.routing, tokens, 0) + UsedExperts(args.routing, tokens, 1);
  const int64_t weights = used * (kUnits * kHidden + (kMoeDim + 1) * kHidden / 2);
  state.SetBytesProcessed(state.iterations() * weights * static_cast<int64_t>(SizeOf(dtype)));
}

BENCHMARK(ReadMemory)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(MatMul)
    ->ArgNames({"tokens", "threads", "bf16"})
    ->ArgsProduct({{1, 8, 64}, {1, 2}, {0, 1}})
    ->UseRealTime();
BENCHMARK(Experts)
    ->ArgNames({"tokens", "threads", "bf16", "masked"})
    ->ArgsProduct({{1, 8, 64}, {1, 2}, {0, 1}, {0, 1}})
    ->UseRealTime();

}  // namespace
}  // namespace monet::kernels

BENCHMARK_MAIN();
