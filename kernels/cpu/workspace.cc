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

// False on overflow, on a negative factor, or when out of memory.
template <typename T>
bool Allocate(std::initializer_list<int64_t> shape, AlignedArray<T>* out) {
  size_t count = 1;
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(count, static_cast<size_t>(extent), &count)) {
      return false;
    }
  }
  if (count > SIZE_MAX / sizeof(T)) return false;
  out->reset(static_cast<T*>(AllocateAligned(count * sizeof(T))));
  return *out != nullptr;
}

}  // namespace

void* AllocateAligned(size_t bytes) {
  const size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kAlignment;
  if (bytes > SIZE_MAX - alignment) return nullptr;
  const size_t rounded = std::max(alignment, (bytes + alignment - 1) / alignment * alignment);
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
  const int64_t t = limits.max_tokens;
  const int64_t e = limits.experts;
  const int64_t m = limits.moe_dim;
  const int64_t vertical = 2 * ActStride(m / 2);
  const int64_t horizontal = ActStride(m);
  if (__builtin_mul_overflow(e, horizontal, &mixed_floats)) return false;
  return kernels::Allocate({2, t, limits.routing_heads, e}, &logits) &&
         kernels::Allocate({t, e, std::max(vertical, horizontal)}, &act) &&
         kernels::Allocate({t, 2, e, m + 1}, &coef) &&
         kernels::Allocate({t, limits.hidden}, &sums) && kernels::Allocate({2, e + 1}, &offset) &&
         kernels::Allocate({2, t, e}, &list) && kernels::Allocate({2, e}, &used) &&
         kernels::Allocate({threads, limits.max_context}, &scores) &&
         kernels::Allocate({threads, mixed_floats}, &mixed) &&
         kernels::Allocate({threads, 2, e}, &flags) &&
         kernels::Allocate({threads, TouchWords(e)}, &words);
}

}  // namespace monet::kernels
