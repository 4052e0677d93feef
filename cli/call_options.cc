#include "cli/call_options.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "cli/exit_status.h"
#include "cli/experts_file.h"
#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {

MaskArguments::MaskArguments(CLI::App* app) {
  policies_ = AddRepeated(app, "--policy", "NAME",
                          "Policy to run under: NAME, NAME@VERSION or NAME@sha256:DIGEST.\n"
                          "May be repeated: what any of them removes is removed. Default: none");
  experts_ = AddRepeated(
      app, "--experts", "FILE",
      "JSON file of experts to remove, beside the policies; may be repeated:\n"
      "{\"routers\": [{\"router\": 0, \"ids\": [17], \"rows\": [3], \"columns\": [7]}]}\n"
      "where ids are i*E + j, a row is all (i, .) and a column all (., j).\n"
      "Also read: the list alone, one entry alone, {\"0\": {\"ids\": [17]}}.\n"
      "'-' is standard input. Default: none");
}

absl::StatusOr<v1::MaskSpec> MaskArguments::Read() const {
  v1::MaskSpec mask;
  MONET_ASSIGN_OR_RETURN(std::vector<std::string> policies, TextsOf(policies_));
  for (std::string& policy : policies) mask.add_policies(std::move(policy));
  for (const std::string& path : experts_->results()) {
    MONET_ASSIGN_OR_RETURN(const std::string json, ReadInput(path));
    auto entries = ParseExpertsFile(json);
    if (!entries.ok()) {
      return InvalidArgument("experts file '{}' {}", path, Message(entries.status()));
    }
    for (v1::RouterExperts& entry : *entries) *mask.add_experts() = std::move(entry);
  }
  return mask;
}

absl::Status CheckApplied(const v1::MaskSpec& asked, const v1::AppliedMask& applied) {
  for (const std::string& reference : asked.policies()) {
    const std::string name = reference.substr(0, reference.find('@'));
    const bool found =
        std::any_of(applied.policies().begin(), applied.policies().end(),
                    [&](const v1::AppliedPolicy& policy) { return policy.name() == name; });
    if (!found) return BadAnswer("policy '{}' is not among those applied", reference);
  }
  return absl::OkStatus();
}

}  // namespace monet::cli
