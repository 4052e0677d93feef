#include "cli/policy_text.h"

#include <nlohmann/json.hpp>

#include "runtime/policy/mask_file.h"

namespace monet::cli {

absl::StatusOr<PolicyFile> MakePolicyFile(Policy policy, const std::string& built) {
  const MaskShape& shape = policy.mask->shape();
  const std::string sha256 =
      Sha256(policy.mask->bitmap()).ToString().substr(std::string_view("sha256:").size());
  PolicyFile file;
  file.mask_name = fmt::format("{}.mask", policy.version);
  file.mask = DeflateMask(policy.mask->bitmap());
  file.yaml = fmt::format("format: 1\nname: {}\nversion: {}\n", policy.name, policy.version);
  if (!policy.description.empty()) {
    // A JSON string is one of YAML too.
    file.yaml += fmt::format("description: {}\n", nlohmann::json(policy.description).dump());
  }
  file.yaml += fmt::format(
      "model: {}\nsemantics: zero\nrouters: {}\nexperts_per_side: {}\n"
      "experts: {{file: {}, sha256: {}}}\nbuilt: {}\n",
      policy.model.ToString(), shape.routers, shape.experts, file.mask_name, sha256, built);
  MONET_ASSIGN_OR_RETURN(file.policy, ParsePolicy(file.yaml, file.mask));
  return file;
}

}  // namespace monet::cli
