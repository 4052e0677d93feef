// The one table of a checkpoint's tensors: loading, checking, byte counts and hashing walk it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/model/config.h"
#include "runtime/model/safetensors.h"

namespace monet {

// What a tensor is for. Layer roles come once a layer, router roles once a router group.
enum class TensorRole : uint8_t {
  kEmbedding,
  kFinalNorm,
  kHead,
  // layer
  kInputNorm,
  kPostAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kOutput,
  kUp1,  // vertical: u1; horizontal: u
  kUp1Bias,
  kUp2,  // vertical only, like the next
  kUp2Bias,
  kDown11,  // vertical: v11, v12 belong to side 1; v21, v22 to side 2
  kDown12,
  kDown21,
  kDown22,
  kDownBias1,
  kDownBias2,  // vertical: b2; horizontal: b
  kDown,       // horizontal: v
  // router
  kRouter1,
  kRouter2,
  kMean1,
  kVariance1,
  kMean2,
  kVariance2,
  // read by nothing
  kIgnored,
};

enum class Presence : uint8_t {
  kRequired,
  kIgnored,  // may be absent; neither checked nor hashed
};

struct TensorSpec {
  std::string name;
  TensorRole role = TensorRole::kIgnored;
  int32_t layer = -1;          // layer roles and router roles (the layer that holds the router)
  std::vector<int64_t> shape;  // unspecified for ignored tensors
  Presence presence = Presence::kRequired;
};

// Every tensor that a checkpoint of `config` may hold, in no particular order, names unique.
std::vector<TensorSpec> TensorTable(const ModelConfig& config);

// A required tensor may be stored as F32 or BF16, whatever the others are.
bool IsWeightDType(TensorDType dtype);

// Checks what the files hold against the table. Errors: INVALID_ARGUMENT naming the tensor
// (missing, surplus, wrong shape, dtype not F32 or BF16).
absl::Status CheckTensors(const std::vector<TensorSpec>& table,
                          const std::vector<TensorInfo>& present);

// Bytes of a checkpoint of `config` with every tensor stored as `dtype`, ignored ones left out.
int64_t TableBytes(const std::vector<TensorSpec>& table, TensorDType dtype);

}  // namespace monet
