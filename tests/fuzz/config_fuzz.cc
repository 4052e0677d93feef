// Bytes as config.json: never a crash, and whatever is accepted can be used.
#include <cmath>
#include <cstdint>
#include <string_view>

#include "runtime/base/check.h"
#include "runtime/model/config.h"
#include "runtime/model/tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed =
      monet::ParseModelConfig(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!parsed.ok()) return 0;
  const monet::ModelConfig& config = *parsed;
  MONET_CHECK(config.HeadDim() * config.heads == config.hidden && config.HeadDim() % 2 == 0);
  MONET_CHECK(config.heads % config.kv_heads == 0);
  MONET_CHECK(config.top_k >= 1 && config.top_k <= config.experts);
  MONET_CHECK(config.Routers() >= 1 && config.RouterOf(config.layers - 1) < config.Routers());
  MONET_CHECK(config.UpUnits() >= 1 && config.DownOutputs() >= 1);
  MONET_CHECK(config.bos_id < config.vocabulary && config.eos_id < config.vocabulary);
  MONET_CHECK(!std::isnan(monet::RouterThreshold(0.5, 0.25, config.top_k, config.experts)));
  MONET_CHECK(!monet::CanonicalConfig(config).empty());
  const auto table = monet::TensorTable(config);
  MONET_CHECK(monet::TableBytes(table, monet::TensorDType::kF32) > 0);
  for (const monet::TensorSpec& spec : table) {
    for (int64_t dimension : spec.shape) MONET_CHECK(dimension > 0 && dimension <= INT32_MAX);
  }
  return 0;
}
