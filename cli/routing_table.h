// Active experts of many tokens as coordinate lists, one for each router group: the safetensors
// file of `monetctl explain --out`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "monet/v1/routing.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

// The nearest half-precision number, ties to even; its bits.
uint16_t HalfBits(float value);

// Not thread-safe. Takes 14 bytes an entry.
class RoutingTable {
 public:
  // R and E of the model.
  RoutingTable(int32_t routers, int32_t experts) : experts_(experts), routers_(routers) {}

  // Errors: exit code 1 when the server names a router or expert that the model does not have.
  absl::Status Add(int32_t sequence, const v1::TokenActivation& activation);
  int64_t entries() const;

  // For each router n the tensors "rn.sequence", "rn.position", "rn.expert" (I32; i·E + j) and
  // "rn.weight" (F16), all of one length, by sequence, position and falling weight. "metadata" goes
  // into the header, and E beside it as "experts_per_side". Errors: as WriteSafetensors.
  absl::Status Write(const std::filesystem::path& path,
                     std::map<std::string, std::string> metadata) const;

 private:
  struct Lists {
    std::vector<int32_t> sequence;
    std::vector<int32_t> position;
    std::vector<int32_t> expert;
    std::vector<uint16_t> weight;
  };

  const int32_t experts_;
  std::vector<Lists> routers_;
};

}  // namespace monet::cli
