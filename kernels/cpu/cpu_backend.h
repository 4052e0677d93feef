// The CPU backend: SIMD, a persistent thread pool, sparse experts, batch-invariant products.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace monet::kernels {

// Which instructions to use. All of them give the same bits (16 logical fp32 lanes with one fixed
// reduction tree); kAuto takes the best that the machine has.
enum class Isa : uint8_t { kAuto, kGeneric, kAvx2, kAvx512 };

struct CpuOptions {
  int32_t threads = 1;  // computing threads, the caller's among them; at least 1
  Isa isa = Isa::kAuto;
};

// True if this machine can run `isa`.
bool CpuHas(Isa isa);

// Null when the machine lacks the requested instruction set.
std::unique_ptr<Backend> MakeCpuBackend(const CpuOptions& options);

}  // namespace monet::kernels
