// monetctl policy diff: which experts two policies have in common.
#include <algorithm>
#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "cli/exit_status.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/policy_commands.h"
#include "cli/policy_source.h"
#include "cli/server_arguments.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl policy diff policies/no-python/1.yaml policies/no-python/2.yaml\n"
    "  monetctl policy diff policies/no-python/2.yaml no-python@1 --exit-code\n\n"
    "A and B are policy files (a path has a slash or ends with .yaml) or references that the\n"
    "server knows. Counts are by router group. Policies of another shape cannot be compared; of\n"
    "another model they can, but there the same number is another expert.";

struct DiffArguments {
  explicit DiffArguments(CLI::App* app) : server(app) {
    a = AddValue(app, "A", "", "Policy file or reference")->required();
    b = AddValue(app, "B", "", "Policy file or reference")->required();
    app->add_flag("--experts", experts, "List the experts that only one of them removes");
    app->add_flag("--exit-code", exit_code, "End with 1 when the digests differ");
    app->add_flag("--json", json, "Print one JSON object");
  }

  ServerArguments server;
  CLI::Option *a, *b;
  bool experts = false;
  bool exit_code = false;
  bool json = false;
};

// Experts of one router group.
struct Counts {
  int64_t only_a = 0;
  int64_t only_b = 0;
  int64_t both = 0;

  Counts& operator+=(const Counts& other) {
    only_a += other.only_a;
    only_b += other.only_b;
    both += other.both;
    return *this;
  }
  // Of those that either removes; 1 where neither removes any.
  double Jaccard() const {
    const int64_t either = only_a + only_b + both;
    return either == 0 ? 1 : static_cast<double>(both) / static_cast<double>(either);
  }
};

std::span<const uint8_t> PartOf(const ExpertMask& mask, int32_t router) {
  const size_t bytes = mask.shape().BytesPerRouter();
  return mask.bitmap().subspan(static_cast<size_t>(router) * bytes, bytes);
}

Counts Compare(const ExpertMask& a, const ExpertMask& b, int32_t router) {
  Counts counts;
  const auto in_a = PartOf(a, router);
  const auto in_b = PartOf(b, router);
  for (size_t n = 0; n < in_a.size(); ++n) {
    counts.only_a += std::popcount(static_cast<uint8_t>(in_a[n] & ~in_b[n]));
    counts.only_b += std::popcount(static_cast<uint8_t>(in_b[n] & ~in_a[n]));
    counts.both += std::popcount(static_cast<uint8_t>(in_a[n] & in_b[n]));
  }
  return counts;
}

// "r0/3/17" of all experts that `mask` removes and `other` does not.
std::vector<std::string> OnlyIn(const ExpertMask& mask, const ExpertMask& other) {
  std::vector<std::string> names;
  const int32_t side = mask.shape().experts;
  for (int32_t router = 0; router < mask.shape().routers; ++router) {
    const auto in = PartOf(mask, router);
    const auto out = PartOf(other, router);
    for (size_t n = 0; n < in.size(); ++n) {
      for (auto bits = static_cast<uint8_t>(in[n] & ~out[n]); bits != 0; bits &= bits - 1) {
        const int64_t expert = 8 * static_cast<int64_t>(n) + std::countr_zero(bits);
        names.push_back(fmt::format("r{}/{}/{}", router, expert / side, expert % side));
      }
    }
  }
  return names;
}

Json CountsJson(const Counts& counts) {
  return {{"only_a", counts.only_a},
          {"only_b", counts.only_b},
          {"both", counts.both},
          {"jaccard", counts.Jaccard()}};
}

Json SideJson(const Policy& policy) {
  return {{"name", policy.name},
          {"version", policy.version},
          {"digest", policy.digest.ToString()},
          {"model", policy.model.ToString()},
          {"experts_removed", policy.mask->removed()}};
}

struct Comparison {
  const Policy& a;
  const Policy& b;
  std::vector<Counts> routers;
  Counts all;
};

Json ComparisonJson(const Comparison& comparison, bool experts) {
  Json json = {{"a", SideJson(comparison.a)},
               {"b", SideJson(comparison.b)},
               {"same_model", comparison.a.model == comparison.b.model},
               {"same_digest", comparison.a.digest == comparison.b.digest}};
  json.update(CountsJson(comparison.all));
  json["routers"] = Json::array();
  for (const Counts& counts : comparison.routers) json["routers"].push_back(CountsJson(counts));
  if (experts) {
    json["experts_only_a"] = OnlyIn(*comparison.a.mask, *comparison.b.mask);
    json["experts_only_b"] = OnlyIn(*comparison.b.mask, *comparison.a.mask);
  }
  return json;
}

std::string SideText(const char* side, const Policy& policy) {
  return fmt::format("{}  {}@{}  {}  {}\n", side, policy.name, policy.version,
                     policy.digest.ToString(),
                     RemovedText(policy.mask->removed(), policy.mask->shape().Experts()));
}

std::string RowText(const std::string& name, const Counts& counts) {
  return fmt::format("{:<8}{:>10}{:>10}{:>10}{:>10.4f}\n", name, counts.only_a, counts.only_b,
                     counts.both, counts.Jaccard());
}

std::string ComparisonText(const Comparison& comparison, bool experts) {
  std::string text = SideText("A", comparison.a) + SideText("B", comparison.b);
  if (comparison.a.model != comparison.b.model) {
    text += "of different models: the same number is another expert\n";
  }
  text += comparison.a.digest == comparison.b.digest ? "the same digest\n" : "different digests\n";
  text += fmt::format("{:<8}{:>10}{:>10}{:>10}{:>10}\n", "ROUTER", "ONLY A", "ONLY B", "BOTH",
                      "JACCARD");
  for (size_t router = 0; router < comparison.routers.size(); ++router) {
    text += RowText(std::to_string(router), comparison.routers[router]);
  }
  text += RowText("all", comparison.all);
  if (!experts) return text;
  for (const auto& name : OnlyIn(*comparison.a.mask, *comparison.b.mask))
    text += "A " + name + "\n";
  for (const auto& name : OnlyIn(*comparison.b.mask, *comparison.a.mask))
    text += "B " + name + "\n";
  return text;
}

// Opens a connection only for a reference.
absl::StatusOr<Policy> ReadSide(const std::string& text, const ServerArguments& arguments,
                                const Session& session) {
  if (IsPolicyPath(text)) {
    MONET_ASSIGN_OR_RETURN(PolicyFile file, ReadPolicyAt(text));
    return std::move(file.policy);
  }
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.Read());
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  return FetchPolicy(text, connection.get());
}

absl::Status RunDiff(const DiffArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const auto a_text, TextOf(arguments.a));
  MONET_ASSIGN_OR_RETURN(const auto b_text, TextOf(arguments.b));
  MONET_ASSIGN_OR_RETURN(const Policy a, ReadSide(*a_text, arguments.server, session));
  MONET_ASSIGN_OR_RETURN(const Policy b, ReadSide(*b_text, arguments.server, session));
  const MaskShape& shape = a.mask->shape();
  if (shape != b.mask->shape()) {
    return InvalidArgument("A has {} routers and {} experts a side, B {} and {}", shape.routers,
                           shape.experts, b.mask->shape().routers, b.mask->shape().experts);
  }
  Comparison comparison{a, b, {}, {}};
  for (int32_t router = 0; router < shape.routers; ++router) {
    comparison.routers.push_back(Compare(*a.mask, *b.mask, router));
    comparison.all += comparison.routers.back();
  }
  MONET_RETURN_IF_ERROR(
      session.console->Write(arguments.json ? Line(ComparisonJson(comparison, arguments.experts))
                                            : ComparisonText(comparison, arguments.experts)));
  if (arguments.exit_code && a.digest != b.digest) {
    return MarkCallFailed(
        Error(absl::StatusCode::kFailedPrecondition, "the policies have different digests"));
  }
  return absl::OkStatus();
}

}  // namespace

Command AddPolicyDiff(CLI::App* policy) {
  CLI::App* app = policy->add_subcommand("diff", "Which experts two policies have in common");
  app->footer(kExample);
  auto arguments = std::make_shared<DiffArguments>(app);
  return {app, [arguments](const Session& session) { return RunDiff(*arguments, session); }};
}

}  // namespace monet::cli
