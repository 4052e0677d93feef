#include "cli/routing_table.h"

#include <cstring>
#include <span>

#include "cli/exit_status.h"
#include "runtime/model/safetensors.h"

namespace monet::cli {
namespace {

template <typename T>
TensorToWrite Tensor(const std::string& name, TensorDType dtype, const std::vector<T>& values) {
  return {.name = name,
          .dtype = dtype,
          .shape = {static_cast<int64_t>(values.size())},
          .bytes = {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)}};
}

}  // namespace

uint16_t HalfBits(float value) {
  const auto half = static_cast<_Float16>(value);
  uint16_t bits = 0;
  static_assert(sizeof(half) == sizeof(bits));
  std::memcpy(&bits, &half, sizeof(bits));
  return bits;
}

absl::Status RoutingTable::Add(int32_t sequence, const v1::TokenActivation& activation) {
  const int32_t router = activation.router();
  if (router < 0 || router >= std::ssize(routers_)) {
    return BadAnswer("router {} of {}", router, routers_.size());
  }
  Lists& lists = routers_[static_cast<size_t>(router)];
  for (const v1::ExpertActivation& expert : activation.experts()) {
    if (expert.i() < 0 || expert.i() >= experts_ || expert.j() < 0 || expert.j() >= experts_) {
      return BadAnswer("expert r{}/{}/{} of {} a side", router, expert.i(), expert.j(), experts_);
    }
    lists.sequence.push_back(sequence);
    lists.position.push_back(activation.position());
    lists.expert.push_back(expert.i() * experts_ + expert.j());
    lists.weight.push_back(HalfBits(expert.weight()));
  }
  return absl::OkStatus();
}

int64_t RoutingTable::entries() const {
  int64_t entries = 0;
  for (const Lists& lists : routers_) entries += std::ssize(lists.expert);
  return entries;
}

absl::Status RoutingTable::Write(const std::filesystem::path& path,
                                 std::map<std::string, std::string> metadata) const {
  metadata["experts_per_side"] = std::to_string(experts_);
  std::vector<TensorToWrite> tensors;
  for (size_t router = 0; router < routers_.size(); ++router) {
    const Lists& lists = routers_[router];
    const std::string prefix = fmt::format("r{}.", router);
    tensors.push_back(Tensor(prefix + "sequence", TensorDType::kI32, lists.sequence));
    tensors.push_back(Tensor(prefix + "position", TensorDType::kI32, lists.position));
    tensors.push_back(Tensor(prefix + "expert", TensorDType::kI32, lists.expert));
  }
  // Last, as the format's own writers do: readers that map a file need each tensor aligned.
  for (size_t router = 0; router < routers_.size(); ++router) {
    tensors.push_back(
        Tensor(fmt::format("r{}.weight", router), TensorDType::kF16, routers_[router].weight));
  }
  return WriteSafetensors(path, tensors, metadata);
}

}  // namespace monet::cli
