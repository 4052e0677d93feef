// The kernels for one instruction set; built with its own flags (kernels/CMakeLists.txt). Includes
// nothing with inline functions of external linkage beyond plain data.
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/lanes_avx512.h"

#define MONET_ISA avx512

// In the order of use.
// clang-format off
#include "kernels/cpu/dense.inc"
#include "kernels/cpu/attention.inc"
#include "kernels/cpu/experts.inc"
// clang-format on

namespace monet::kernels {

const KernelTable& Avx512Kernels() {
  static constexpr KernelTable kTable = {
      .exp = avx512::ExpRange,
      .embed = avx512::Embed,
      .rms_norm = avx512::RmsNorm,
      .mat_mul = avx512::MatMul,
      .rope_store = avx512::RopeStore,
      .attention = avx512::Attention,
      .route = avx512::Route,
      .expert_up = avx512::ExpertUp,
      .expert_mix = avx512::ExpertMix,
      .expert_down = avx512::ExpertDown,
  };
  return kTable;
}

}  // namespace monet::kernels
