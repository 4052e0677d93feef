// The kernels for one instruction set; built with its own flags (kernels/CMakeLists.txt). Includes
// nothing with inline functions of external linkage beyond plain data.
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/lanes_generic.h"

#define MONET_ISA generic

// In the order of use.
// clang-format off
#include "kernels/cpu/dense.inc"
#include "kernels/cpu/attention.inc"
#include "kernels/cpu/experts.inc"
// clang-format on

namespace monet::kernels {

const KernelTable& GenericKernels() {
  static constexpr KernelTable kTable = {
      .exp = generic::ExpRange,
      .embed = generic::Embed,
      .rms_norm = generic::RmsNorm,
      .mat_mul = generic::MatMul,
      .rope_store = generic::RopeStore,
      .attention = generic::Attention,
      .route = generic::Route,
      .expert_up = generic::ExpertUp,
      .expert_mix = generic::ExpertMix,
      .expert_down = generic::ExpertDown,
  };
  return kTable;
}

}  // namespace monet::kernels
