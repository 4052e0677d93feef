// Parts of the cpu backend on their own: exp, the search for touched indices, the thread pool.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/mask_touch.h"
#include "kernels/cpu/thread_pool.h"

namespace monet::kernels {
namespace {

std::vector<const KernelTable*> Tables() {
  std::vector<const KernelTable*> tables = {&GenericKernels()};
#if defined(__x86_64__)
  if (CpuHas(Isa::kAvx2)) tables.push_back(&Avx2Kernels());
  if (CpuHas(Isa::kAvx512)) tables.push_back(&Avx512Kernels());
#endif
  return tables;
}

TEST(Exp, IsWithinTwoUlpAndTheSameEverywhere) {
  std::vector<float> x;
  for (double value = 0; value > -87; value -= 1.0 / 511) x.push_back(static_cast<float>(value));
  x.push_back(-87.0f);
  std::vector<float> first(x.size());
  GenericKernels().exp(x.data(), static_cast<int64_t>(x.size()), first.data());
  for (size_t n = 0; n < x.size(); ++n) {
    const double exact = std::exp(static_cast<double>(x[n]));
    ASSERT_NEAR(first[n], exact, exact * 0x1p-22) << x[n];
  }
  for (const KernelTable* table : Tables()) {
    std::vector<float> y(x.size());
    table->exp(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_EQ(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)), 0);
  }
}

TEST(Exp, Edges) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const KernelTable* table : Tables()) {
    const float x[] = {0.0f,   -0.0f,     -87.1f,
                       -1e30f, -infinity, std::numeric_limits<float>::quiet_NaN()};
    float y[6];
    table->exp(x, 6, y);
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[1], 1.0f);
    for (int n = 2; n < 5; ++n) EXPECT_EQ(y[n], 0.0f) << x[n];
    EXPECT_TRUE(std::isnan(y[5]));
  }
}

TEST(FindTouched, EqualsTheDefinition) {
  std::mt19937 rng(3);
  for (int round = 0; round < 400; ++round) {
    const int64_t experts = round % 10 == 0 ? 512 : 1 + static_cast<int64_t>(rng() % 140);
    std::vector<uint8_t> bitmap((experts * experts + 7) / 8, 0);
    const int64_t removed = static_cast<int64_t>(rng() % (experts * experts / 8 + 2));
    for (int64_t n = 0; n < removed; ++n) {
      const int64_t expert = static_cast<int64_t>(rng() % (experts * experts));
      bitmap[expert / 8] |= 1 << (expert % 8);
    }
    std::vector<uint16_t> active[2];
    for (auto& list : active) {
      for (int64_t e = 0; e < experts; ++e) {
        if (rng() % 4 == 0) list.push_back(static_cast<uint16_t>(e));
      }
    }
    std::vector<uint64_t> scratch(TouchWords(experts), ~uint64_t{0});
    std::vector<uint8_t> touched1(experts, 0), touched2(experts, 0);
    const bool any = FindTouched(bitmap.data(), experts, active[0].data(),
                                 static_cast<int32_t>(active[0].size()), active[1].data(),
                                 static_cast<int32_t>(active[1].size()), scratch.data(),
                                 touched1.data(), touched2.data());
    std::vector<uint8_t> want1(experts, 0), want2(experts, 0);
    bool want_any = false;
    for (const int64_t i : active[0]) {
      for (const int64_t j : active[1]) {
        const int64_t expert = i * experts + j;
        if (((bitmap[expert / 8] >> (expert % 8)) & 1) == 0) continue;
        want1[i] = want2[j] = 1;
        want_any = true;
      }
    }
    ASSERT_EQ(any, want_any) << "E=" << experts;
    ASSERT_EQ(touched1, want1) << "E=" << experts;
    ASSERT_EQ(touched2, want2) << "E=" << experts;
  }
}

TEST(ThreadPool, RunsEveryItemOnce) {
  for (const int32_t threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    for (int round = 0; round < 2000; ++round) {
      const int64_t items = round % 23;
      std::vector<std::atomic<int>> runs(items);
      std::atomic<bool> thread_in_range{true};
      pool.For(items, [&](int64_t item, int32_t thread) {
        runs[item].fetch_add(1);
        if (thread < 0 || thread >= threads) thread_in_range = false;
      });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
      ASSERT_TRUE(thread_in_range);
    }
  }
}

TEST(ThreadPool, WakesAfterSleep) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    // No item returns before another thread has one too: sleepers must wake.
    std::atomic<int> begun{0};
    pool.For(2, [&](int64_t, int32_t) {
      begun.fetch_add(1);
      while (begun.load() < 2) std::this_thread::yield();
    });
    ASSERT_EQ(begun.load(), 2);
  }
}

TEST(ThreadPool, EveryWorkerFlushesDenormals) {
  ThreadPool pool(2);
  const volatile float small = 1e-20f;
  float product[2] = {-1, -1};
  std::atomic<int> begun{0};
  pool.For(2, [&](int64_t, int32_t thread) {
    product[thread] = small * small;
    begun.fetch_add(1);
    while (begun.load() < 2) std::this_thread::yield();
  });
  EXPECT_GT(product[0], 0.0f) << "the caller's mode is the operation's business";
  EXPECT_EQ(product[1], 0.0f);
}

TEST(ThreadPool, SleepsWhenIdle) {
  const auto used = [] {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
           1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  };
  ThreadPool pool(4);
  pool.For(8, [](int64_t, int32_t) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = used();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(used() - before, 0.05) << "three spinning threads would use 0.9 s";
}

// Denormals are zero within operations, on every thread, and as before outside.
TEST(CpuBackend, FlushesDenormalsAndRestoresTheCallersMode) {
  for (const int32_t threads : {1, 3}) {
    const auto backend = MakeCpuBackend({.threads = threads});
    constexpr int32_t kCount = 40000;
    auto* weight = static_cast<float*>(backend->Alloc(kCount * sizeof(float)));
    auto* out = static_cast<float*>(backend->Alloc(kCount * sizeof(float)));
    for (int32_t n = 0; n < kCount; ++n) weight[n] = 1e-20f;
    auto* x = static_cast<float*>(backend->Alloc(sizeof(float)));
    *x = 1e-20f;  // the product, 1e-40, is denormal
    backend->MatMul({.x = x, .weight = {weight, DType::kF32, kCount, 1}, .tokens = 1, .out = out});
    for (int32_t n = 0; n < kCount; ++n) ASSERT_EQ(out[n], 0.0f) << n;
    const volatile float small = 1e-20f;
    EXPECT_GT(small * small, 0.0f);
    for (void* ptr : {weight, out, x}) backend->Free(ptr);
  }
}

TEST(CpuBackend, RefusesWhatCannotBe) {
  EXPECT_FALSE(
      MakeCpuBackend({})->Prepare({.max_tokens = 1 << 30, .experts = 1 << 30, .moe_dim = 1 << 30}));
  EXPECT_FALSE(MakeCpuBackend({})->Prepare({.max_tokens = -1}));
  EXPECT_EQ(MakeCpuBackend({})->Alloc(~size_t{0}), nullptr);
  for (const Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512}) {
    EXPECT_EQ(MakeCpuBackend({.isa = isa}) != nullptr, CpuHas(isa));
  }
}

TEST(CpuBackend, AllocAligns) {
  const auto backend = MakeCpuBackend({});
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{5} << 20}) {
    void* ptr = backend->Alloc(bytes);
    ASSERT_NE(ptr, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(ptr) % 64, 0u);
    backend->Free(ptr);
  }
}

}  // namespace
}  // namespace monet::kernels
