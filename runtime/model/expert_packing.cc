#include "runtime/model/expert_packing.h"

#include <cstring>

#include "kernels/bf16.h"

namespace monet {
namespace {

float LoadAsFloat(const kernels::Matrix& matrix, int64_t element) {
  if (matrix.dtype == kernels::DType::kBF16) {
    return kernels::WidenBf16(static_cast<const uint16_t*>(matrix.data)[element]);
  }
  return static_cast<const float*>(matrix.data)[element];
}

// Load(matrix, element) gives an element in the type of `out`.
template <typename T, typename Load>
void Pack(const ExpertDownParts& parts, T* out, Load load) {
  const int64_t experts = parts.bias.rows;
  const int64_t outputs = parts.bias.cols;
  const int64_t units = parts.units;
  for (int64_t e = 0; e < experts; ++e) {
    for (const kernels::Matrix& part : parts.down) {
      for (int64_t n = 0; n < outputs; ++n) {
        for (int64_t q = 0; q < units; ++q) {
          out[q * outputs + n] = load(part, n * part.cols + e * units + q);
        }
      }
      out += units * outputs;
    }
    for (int64_t n = 0; n < outputs; ++n) out[n] = load(parts.bias, e * outputs + n);
    out += outputs;
  }
}

}  // namespace

kernels::DType PackedDType(const ExpertDownParts& parts) {
  bool all_bf16 = parts.bias.dtype == kernels::DType::kBF16;
  for (const kernels::Matrix& part : parts.down) {
    all_bf16 = all_bf16 && part.dtype == kernels::DType::kBF16;
  }
  return all_bf16 ? kernels::DType::kBF16 : kernels::DType::kF32;
}

size_t PackedElements(const ExpertDownParts& parts) {
  const size_t rows = parts.down.size() * parts.units + 1;
  return static_cast<size_t>(parts.bias.rows) * rows * parts.bias.cols;
}

void PackExpertDown(const ExpertDownParts& parts, void* out) {
  if (PackedDType(parts) == kernels::DType::kBF16) {
    Pack(parts, static_cast<uint16_t*>(out), [](const kernels::Matrix& matrix, int64_t element) {
      return static_cast<const uint16_t*>(matrix.data)[element];
    });
  } else {
    Pack(parts, static_cast<float*>(out), LoadAsFloat);
  }
}

}  // namespace monet
