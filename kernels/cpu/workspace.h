// Memory of the CPU backend: what operands live in, and the scratch that operations share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"

namespace monet::kernels {

// What AllocateAligned takes from the system for `bytes`: 2 MiB pages are whole.
// REQUIRES: bytes + 2 MiB does not overflow.
size_t AlignedBytes(size_t bytes);
// 64-byte aligned, in 2 MiB pages where large; null when out of memory.
void* AllocateAligned(size_t bytes);
void FreeAligned(void* ptr);

struct AlignedDeleter {
  void operator()(void* ptr) const { FreeAligned(ptr); }
};
template <typename T>
using AlignedArray = std::unique_ptr<T[], AlignedDeleter>;

// Sized once from the limits; operations allocate nothing.
struct Workspace {
  // False when out of memory or when sizes overflow.
  bool Allocate(const Limits& limits, int32_t threads);

  // Routing
  AlignedArray<float> logits;  // (2, T, H·E)
  // Experts; see ExpertWork
  AlignedArray<float> act;       // (T, sides, E, stride), the larger of both decompositions
  AlignedArray<float> coef;      // (T, 2, E, M + 1)
  AlignedArray<float> sums;      // (T, D)
  AlignedArray<int32_t> offset;  // (2, E + 1)
  AlignedArray<int32_t> list;    // (2, T·E)
  AlignedArray<int32_t> used;    // (2·E) experts with a row: those of side 0, then of side 1
  // One of each a thread
  AlignedArray<float> scores;    // (threads, max_context)
  AlignedArray<float> mixed;     // (threads, E, stride)
  AlignedArray<uint8_t> flags;   // (threads, 2, E)
  AlignedArray<uint64_t> words;  // (threads, TouchWords(E))

  Limits limits;
  int64_t mixed_floats = 0;  // of one thread
};

// Bytes that Workspace::Allocate takes; -1 when sizes overflow. Allocates nothing.
int64_t WorkspaceBytes(const Limits& limits, int32_t threads);

// Inner units and a one, in whole lanes.
constexpr int64_t ActStride(int64_t units) { return (units + 1 + 15) / 16 * 16; }

}  // namespace monet::kernels
