// The kernels for one instruction set; built with its own flags (kernels/CMakeLists.txt). Includes
// nothing with inline functions of external linkage beyond plain data.
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/lanes_avx2.h"

#define MONET_ISA avx2

// In the order of use.
// clang-format off
#include "kernels/cpu/dense.inc"
#include "kernels/cpu/attention.inc"
#include "kernels/cpu/experts.inc"
// clang-format on

namespace monet::kernels {

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kTable = {
      .exp = avx2::ExpRange,
      .embed = avx2::Embed,
      .rms_norm = avx2::RmsNorm,
      .mat_mul = avx2::MatMul,
      .rope_store = avx2::RopeStore,
      .attention = avx2::Attention,
      .route = avx2::Route,
      .expert_up = avx2::ExpertUp,
      .expert_mix = avx2::ExpertMix,
      .expert_down = avx2::ExpertDown,
  };
  return kTable;
}

}  // namespace monet::kernels
