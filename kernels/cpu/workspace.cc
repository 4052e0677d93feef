#include "kernels/cpu/workspace.h"

#include <algorithm>
#include <cstdlib>
#include <initializer_list>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels/cpu/mask_touch.h"

namespace monet::kernels {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

// Bytes of an array of T; false on overflow or on a negative factor.
template <typename T>
bool ArrayBytes(std::initializer_list<int64_t> shape, size_t* bytes) {
  size_t count = sizeof(T);
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(count, static_cast<size_t>(extent), &count)) {
      return false;
    }
  }
  *bytes = count;
  return true;
}

size_t AlignmentOf(size_t bytes) { return bytes >= 2 * kHugePage ? kHugePage : kAlignment; }

struct Allocator {
  template <typename T>
  bool operator()(std::initializer_list<int64_t> shape, AlignedArray<T>* out) const {
    size_t bytes = 0;
    if (!ArrayBytes<T>(shape, &bytes)) return false;
    out->reset(static_cast<T*>(AllocateAligned(bytes)));
    return *out != nullptr;
  }
};

struct Counter {
  template <typename T>
  bool operator()(std::initializer_list<int64_t> shape, AlignedArray<T>*) const {
    size_t bytes = 0;
    if (!ArrayBytes<T>(shape, &bytes)) return false;
    return !__builtin_add_overflow(*total, static_cast<int64_t>(AlignedBytes(bytes)), total);
  }
  int64_t* total;
};

// The one list of arrays and their shapes: take(shape, array) for each, until one fails.
template <typename Take>
bool ForEachArray(Workspace* space, const Limits& limits, int32_t threads, const Take& take) {
  const int64_t t = limits.max_tokens;
  const int64_t e = limits.experts;
  const int64_t m = limits.moe_dim;
  const int64_t vertical = 2 * ActStride(m / 2);
  const int64_t horizontal = ActStride(m);
  if (__builtin_mul_overflow(e, horizontal, &space->mixed_floats)) return false;
  return take({2, t, limits.routing_heads, e}, &space->logits) &&
         take({t, e, std::max(vertical, horizontal)}, &space->act) &&
         take({t, 2, e, m + 1}, &space->coef) && take({t, limits.hidden}, &space->sums) &&
         take({2, e + 1}, &space->offset) && take({2, t, e}, &space->list) &&
         take({2, e}, &space->used) && take({threads, limits.max_context}, &space->scores) &&
         take({threads, space->mixed_floats}, &space->mixed) &&
         take({threads, 2, e}, &space->flags) && take({threads, TouchWords(e)}, &space->words);
}

}  // namespace

size_t AlignedBytes(size_t bytes) {
  const size_t alignment = AlignmentOf(bytes);
  return std::max(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void* AllocateAligned(size_t bytes) {
  const size_t alignment = AlignmentOf(bytes);
  if (bytes > SIZE_MAX - alignment) return nullptr;
  const size_t rounded = AlignedBytes(bytes);
  void* ptr = std::aligned_alloc(alignment, rounded);
#if defined(__linux__)
  // Advice only: without huge pages everything works, slower.
  if (ptr != nullptr && alignment == kHugePage) madvise(ptr, rounded, MADV_HUGEPAGE);
#endif
  return ptr;
}

void FreeAligned(void* ptr) { std::free(ptr); }

bool Workspace::Allocate(const Limits& new_limits, int32_t threads) {
  limits = new_limits;
  return ForEachArray(this, limits, threads, Allocator{});
}

int64_t WorkspaceBytes(const Limits& limits, int32_t threads) {
  Workspace none;
  int64_t total = 0;
  return ForEachArray(&none, limits, threads, Counter{&total}) ? total : -1;
}

}  // namespace monet::kernels
