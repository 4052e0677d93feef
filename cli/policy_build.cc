// monetctl policy build: a policy from statistics, by a rule.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "cli/exit_status.h"
#include "cli/experts_file.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/policy_commands.h"
#include "cli/policy_source.h"
#include "cli/policy_text.h"
#include "cli/routing_statistics.h"
#include "cli/text_input.h"
#include "runtime/policy/attribution.h"
#include "runtime/policy/policy_push.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl policy build --stats stats.safetensors --rule ratio --target python \\\n"
    "      --name no-python --version 2 --out policies\n"
    "  monetctl policy build --stats scores.safetensors --rule correlation --threshold 0.1 \\\n"
    "      --name no-toxic --out policies\n"
    "  monetctl policy build --union policies/no-c/1.yaml --union policies/no-java/1.yaml \\\n"
    "      --name no-braces --out policies\n\n"
    "ratio: experts whose routing probability on the target is at least --ratio times that on the\n"
    "second label. top: the --top experts where it leads by the greatest factor. correlation: "
    "Pearson\n"
    "with the score above --threshold. With --min-tokens 0 --fdr 1 ratio is the paper's rule to "
    "the\n"
    "letter. Other policies are united with what the rule finds (--union), then taken away "
    "(--minus),\n"
    "then the experts of --keep. The split-half figure of a router group is the Jaccard index of "
    "what\n"
    "the rule finds in each half of the documents alone.";

struct BuildArguments {
  explicit BuildArguments(CLI::App* app) {
    stats = AddValue(app, "--stats", "FILE", "Statistics of monetctl policy collect");
    rule = AddValue(app, "--rule", "RULE", "ratio, top or correlation");
    target = AddValue(app, "--target", "LABEL", "Whose experts to remove (ratio, top)");
    ratio = AddValue(app, "--ratio", "R", "Of ratio. Default: 2");
    top = AddValue(app, "--top", "N", "Of top: how many experts in all router groups");
    threshold = AddValue(app, "--threshold", "TAU", "Of correlation: least coefficient");
    min_tokens =
        AddValue(app, "--min-tokens", "N", "Tokens that must have reached an expert. Default: 30");
    fdr = AddValue(app, "--fdr", "Q",
                   "False-discovery rate of a Welch test on documents, by router group\n"
                   "(ratio, top); 1: no test. Default: 0.05");
    unite = AddRepeated(app, "--union", "FILE", "Also remove what this policy removes");
    minus = AddRepeated(app, "--minus", "FILE", "Do not remove what this policy removes");
    keep = AddRepeated(app, "--keep", "FILE", "Do not remove these experts (JSON, as --experts)");
    name = AddValue(app, "--name", "NAME", "Name of the policy")->required();
    version = AddValue(app, "--version", "N", "Its version. Default: 1");
    description = AddValue(app, "--description", "TEXT", "One line. Default: what was done");
    out = AddValue(app, "--out", "DIR", "Policy directory to write into")->required();
    app->add_flag("--json", json, "Print one JSON object");
  }

  CLI::Option *stats, *rule, *target, *ratio, *top, *threshold, *min_tokens, *fdr;
  CLI::Option *unite, *minus, *keep, *name, *version, *description, *out;
  bool json = false;
};

// What the rule found.
struct Found {
  RoutingStatistics statistics;
  AttributionRule rule;
  std::string rule_name;
  std::vector<bool> experts;      // (R, E²)
  std::vector<double> stability;  // (R)

  bool correlates() const { return rule.kind == AttributionRule::Kind::kCorrelation; }
};

absl::Status RefuseOption(const CLI::Option* option, const std::string& rule) {
  if (option->results().empty()) return absl::OkStatus();
  return InvalidArgument("{} is not of --rule {}", option->get_name(), rule);
}

absl::StatusOr<int32_t> LabelIndex(const RoutingStatistics& statistics,
                                   const std::optional<std::string>& label) {
  if (!label) return InvalidArgument("--target is needed");
  const auto& labels = statistics.labels;
  const auto at = std::find(labels.begin(), labels.end(), *label);
  if (at == labels.end()) return InvalidArgument("--target {}: no such label", *label);
  return static_cast<int32_t>(at - labels.begin());
}

absl::Status ReadLabelRule(const BuildArguments& arguments, const RoutingStatistics& statistics,
                           const std::string& name, AttributionRule* rule) {
  MONET_ASSIGN_OR_RETURN(const auto label, TextOf(arguments.target));
  MONET_ASSIGN_OR_RETURN(rule->target, LabelIndex(statistics, label));
  MONET_RETURN_IF_ERROR(RefuseOption(arguments.threshold, name));
  MONET_ASSIGN_OR_RETURN(const auto fdr, FiniteOf(arguments.fdr));
  rule->false_discovery_rate = fdr.value_or(rule->false_discovery_rate);
  if (!(rule->false_discovery_rate > 0 && rule->false_discovery_rate <= 1)) {
    return InvalidArgument("--fdr is {}, must be above 0 and at most 1",
                           rule->false_discovery_rate);
  }
  if (rule->kind == AttributionRule::Kind::kRatio) {
    MONET_RETURN_IF_ERROR(RefuseOption(arguments.top, name));
    MONET_ASSIGN_OR_RETURN(const auto ratio, FiniteOf(arguments.ratio));
    rule->ratio = ratio.value_or(rule->ratio);
    if (!(rule->ratio > 0)) return InvalidArgument("--ratio is {}, must be above 0", rule->ratio);
    return absl::OkStatus();
  }
  MONET_RETURN_IF_ERROR(RefuseOption(arguments.ratio, name));
  MONET_ASSIGN_OR_RETURN(const auto top, Int32Of(arguments.top));
  if (!top || *top < 1) return InvalidArgument("--rule top needs --top, at least 1");
  rule->top = *top;
  return absl::OkStatus();
}

absl::Status ReadCorrelation(const BuildArguments& arguments, AttributionRule* rule) {
  for (const CLI::Option* option :
       {arguments.target, arguments.ratio, arguments.top, arguments.fdr}) {
    MONET_RETURN_IF_ERROR(RefuseOption(option, "correlation"));
  }
  MONET_ASSIGN_OR_RETURN(const auto threshold, FiniteOf(arguments.threshold));
  if (!threshold || !(*threshold >= -1 && *threshold < 1)) {
    return InvalidArgument("--rule correlation needs --threshold, from -1 to below 1");
  }
  rule->threshold = *threshold;
  return absl::OkStatus();
}

absl::Status ReadRule(const BuildArguments& arguments, Found* found) {
  using Kind = AttributionRule::Kind;
  MONET_ASSIGN_OR_RETURN(const auto name, TextOf(arguments.rule));
  if (!name) return InvalidArgument("--stats needs --rule");
  found->rule_name = *name;
  AttributionRule& rule = found->rule;
  MONET_ASSIGN_OR_RETURN(const auto min_tokens, Int32Of(arguments.min_tokens));
  rule.min_tokens = min_tokens.value_or(rule.min_tokens);
  if (rule.min_tokens < 0) return InvalidArgument("--min-tokens must not be negative");
  if (*name == "correlation") {
    rule.kind = Kind::kCorrelation;
    return ReadCorrelation(arguments, &rule);
  }
  if (*name != "ratio" && *name != "top") {
    return InvalidArgument("--rule is '{}', must be ratio, top or correlation", *name);
  }
  rule.kind = *name == "ratio" ? Kind::kRatio : Kind::kTop;
  return ReadLabelRule(arguments, found->statistics, *name, &rule);
}

absl::StatusOr<std::optional<Found>> Find(const BuildArguments& arguments) {
  MONET_ASSIGN_OR_RETURN(const auto path, TextOf(arguments.stats));
  if (!path) {
    for (const CLI::Option* option :
         {arguments.rule, arguments.target, arguments.ratio, arguments.top, arguments.threshold,
          arguments.min_tokens, arguments.fdr}) {
      if (!option->results().empty()) {
        return InvalidArgument("{} needs --stats", option->get_name());
      }
    }
    return std::optional<Found>();
  }
  MONET_ASSIGN_OR_RETURN(RoutingStatistics statistics, ReadStatistics(*path));
  if (!statistics.complete) {
    return InvalidArgument("{}: is not complete; go on with monetctl policy collect --resume",
                           *path);
  }
  Found found{.statistics = std::move(statistics)};
  MONET_RETURN_IF_ERROR(ReadRule(arguments, &found));
  const RoutingSums& sums = found.statistics.sums;
  MONET_ASSIGN_OR_RETURN(found.experts, SelectExperts(sums, found.rule));
  AttributionRule half = found.rule;  // on half of the documents
  half.min_tokens = (half.min_tokens + 1) / 2;
  MONET_ASSIGN_OR_RETURN(const auto first, SelectExperts(sums, half, Halves::kFirst));
  MONET_ASSIGN_OR_RETURN(const auto second, SelectExperts(sums, half, Halves::kSecond));
  for (int32_t router = 0; router < sums.shape().routers; ++router) {
    found.stability.push_back(JaccardOf(first, second, sums.shape(), router));
  }
  return std::optional<Found>(std::move(found));
}

// Experts as flags, and what of built tells where they come from.
struct Draft {
  Digest model;
  MaskShape shape;
  std::vector<bool> experts;  // (R, E²)
  nlohmann::ordered_json built = nlohmann::ordered_json::object();
};

absl::StatusOr<Draft> Begin(const std::optional<Found>& found,
                            const std::vector<PolicyFile>& united) {
  Draft draft;
  if (found) {
    draft.shape = found->statistics.sums.shape();
    draft.experts = found->experts;
    if (!Digest::Parse(found->statistics.model, &draft.model)) {
      return InvalidArgument("--stats: its model '{}' is no fingerprint", found->statistics.model);
    }
    return draft;
  }
  if (united.empty()) return InvalidArgument("--stats or --union is needed");
  draft.model = united[0].policy.model;
  draft.shape = united[0].policy.mask->shape();
  draft.experts.resize(static_cast<size_t>(draft.shape.Experts()));
  return draft;
}

absl::Status Apply(const std::vector<PolicyFile>& files, bool remove, const char* key,
                   Draft* draft) {
  for (const PolicyFile& file : files) {
    const Policy& policy = file.policy;
    const std::string name = fmt::format("{}@{}", policy.name, policy.version);
    if (policy.model != draft->model || policy.mask->shape() != draft->shape) {
      return InvalidArgument("--{} {}: is of another model", key, name);
    }
    const int32_t side = draft->shape.experts;
    size_t at = 0;
    for (int32_t router = 0; router < draft->shape.routers; ++router) {
      for (int32_t i = 0; i < side; ++i) {
        for (int32_t j = 0; j < side; ++j, ++at) {
          if (policy.mask->Removes(router, i, j)) draft->experts[at] = remove;
        }
      }
    }
    draft->built[key].push_back(name + " " + policy.digest.ToString());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PolicyFile>> ReadPolicies(const CLI::Option* option) {
  MONET_ASSIGN_OR_RETURN(const std::vector<std::string> paths, TextsOf(option));
  std::vector<PolicyFile> files;
  for (const std::string& path : paths) {
    MONET_ASSIGN_OR_RETURN(PolicyFile file, ReadPolicyAt(path));
    files.push_back(std::move(file));
  }
  return files;
}

// The experts of the files of --keep, as a mask, checked against the shape.
absl::StatusOr<std::shared_ptr<const ExpertMask>> ReadKept(const CLI::Option* option,
                                                           MaskShape shape) {
  MONET_ASSIGN_OR_RETURN(const std::vector<std::string> paths, TextsOf(option));
  MaskBuilder builder(shape);
  for (const std::string& path : paths) {
    MONET_ASSIGN_OR_RETURN(const std::string text, ReadInput(path));
    auto groups = ParseExpertsFile(text);
    if (!groups.ok()) return InvalidArgument("{}: {}", path, Message(groups.status()));
    for (const v1::RouterExperts& group : *groups) {
      absl::Status status;
      for (const int64_t id : group.ids()) status.Update(builder.AddExpert(group.router(), id));
      for (const int32_t i : group.rows()) status.Update(builder.AddRow(group.router(), i));
      for (const int32_t j : group.columns()) status.Update(builder.AddColumn(group.router(), j));
      if (!status.ok()) return InvalidArgument("{}: {}", path, Message(status));
    }
  }
  return std::move(builder).Build();
}

absl::Status Keep(const ExpertMask& kept, Draft* draft) {
  if (kept.empty()) return absl::OkStatus();
  const auto side = static_cast<size_t>(draft->shape.experts);
  for (size_t at = 0; at < draft->experts.size(); ++at) {
    const auto router = static_cast<int32_t>(at / (side * side));
    const auto i = static_cast<int32_t>(at / side % side);
    if (kept.Removes(router, i, static_cast<int32_t>(at % side))) draft->experts[at] = false;
  }
  draft->built["kept_experts"] = kept.removed();
  return absl::OkStatus();
}

// Of the labels and the hashes, in the order of the statistics.
Digest DocumentsDigest(const RoutingStatistics& statistics) {
  Hasher hasher;
  for (const auto& [label, hash] : statistics.documents) {
    hasher.Update(statistics.labels[static_cast<size_t>(label)]);
    hasher.Update(std::string_view("\0", 1)).Update(hash.bytes);
  }
  return hasher.Finish();
}

void TellRule(const Found& found, nlohmann::ordered_json* built) {
  const RoutingStatistics& statistics = found.statistics;
  const AttributionRule& rule = found.rule;
  (*built)["rule"] = found.rule_name;
  if (rule.kind == AttributionRule::Kind::kRatio) (*built)["ratio"] = rule.ratio;
  if (rule.kind == AttributionRule::Kind::kTop) (*built)["top"] = rule.top;
  if (found.correlates()) (*built)["threshold"] = rule.threshold;
  if (!found.correlates()) {
    (*built)["target"] = statistics.labels[static_cast<size_t>(rule.target)];
    (*built)["fdr"] = rule.false_discovery_rate;
  }
  (*built)["min_tokens"] = rule.min_tokens;
  (*built)["labels"] = statistics.labels;
  (*built)["tokens"] = nlohmann::ordered_json::array();
  for (int32_t label = 0; label < statistics.sums.labels(); ++label) {
    (*built)["tokens"].push_back(statistics.tokens(label));
  }
  (*built)["documents"] = DocumentsDigest(statistics).ToString();
  (*built)["system"] = statistics.system;
}

std::shared_ptr<const ExpertMask> MaskOf(const Draft& draft) {
  std::vector<uint8_t> bitmap(draft.shape.Bytes());
  const size_t group = draft.experts.size() / static_cast<size_t>(draft.shape.routers);
  for (size_t at = 0; at < draft.experts.size(); ++at) {
    if (!draft.experts[at]) continue;
    const size_t expert = at % group;
    bitmap[at / group * draft.shape.BytesPerRouter() + expert / 8] |=
        static_cast<uint8_t>(1 << expert % 8);
  }
  return *ExpertMask::FromBitmap(draft.shape, std::move(bitmap));
}

std::string Describe(const Found* found, const ExpertMask& mask) {
  const std::string removed = RemovedText(mask.removed(), mask.shape().Experts());
  if (found == nullptr) return fmt::format("Removes the experts of other policies: {}.", removed);
  if (found->correlates()) {
    return fmt::format("Removes the experts that go with the score above {}: {}.",
                       found->rule.threshold, removed);
  }
  return fmt::format("Removes the experts that serve text labelled {}: {}.",
                     found->statistics.labels[static_cast<size_t>(found->rule.target)], removed);
}

// The share of a label's routing weight that goes to the mask's experts.
double MassShare(const RoutingSums& sums, int32_t label, const Draft& draft) {
  double removed = 0;
  double all = 0;
  for (int32_t half = 0; half < RoutingSums::kHalves; ++half) {
    const size_t first = sums.First(label, half);
    for (size_t expert = 0; expert < sums.cells(); ++expert) {
      const auto weight = static_cast<double>(sums.weights[first + expert]);
      all += weight;
      if (draft.experts[expert]) removed += weight;
    }
  }
  return all > 0 ? removed / all : 0;
}

Json Report(const Policy& policy, const Draft& draft, const Found* found) {
  Json json = {{"name", policy.name},
               {"version", policy.version},
               {"digest", policy.digest.ToString()},
               {"experts_removed", policy.mask->removed()},
               {"experts_total", policy.mask->shape().Experts()}};
  json["routers"] = Json::array();
  for (int32_t router = 0; router < draft.shape.routers; ++router) {
    json["routers"].push_back({{"experts_removed", policy.mask->RemovedIn(router)}});
    if (found == nullptr) continue;
    json["routers"].back()["split_half_jaccard"] = found->stability[static_cast<size_t>(router)];
  }
  if (found == nullptr) return json;
  json["labels"] = Json::array();
  for (int32_t label = 0; label < found->statistics.sums.labels(); ++label) {
    json["labels"].push_back(
        {{"label", found->statistics.labels[static_cast<size_t>(label)]},
         {"tokens", found->statistics.tokens(label)},
         {"routing_weight_removed", MassShare(found->statistics.sums, label, draft)}});
  }
  return json;
}

std::string ReportText(const Json& report) {
  std::string text =
      fmt::format("{}@{}  {}  {}\n", report["name"].get<std::string>(),
                  report["version"].get<int32_t>(), report["digest"].get<std::string>(),
                  RemovedText(report["experts_removed"], report["experts_total"]));
  text += fmt::format("{:<8}{:>10}{:>12}\n", "ROUTER", "REMOVED", "SPLIT-HALF");
  int32_t router = 0;
  for (const Json& row : report["routers"]) {
    const bool known = row.contains("split_half_jaccard");
    text +=
        fmt::format("{:<8}{:>10}{:>12}\n", router++, row["experts_removed"].get<int64_t>(),
                    known ? fmt::format("{:.4f}", row["split_half_jaccard"].get<double>()) : "-");
  }
  if (!report.contains("labels")) return text;
  text += fmt::format("{:<24}{:>10}{:>16}\n", "LABEL", "TOKENS", "WEIGHT REMOVED");
  for (const Json& row : report["labels"]) {
    text += fmt::format("{:<24}{:>10}{:>14.2f} %\n", row["label"].get<std::string>(),
                        row["tokens"].get<int64_t>(),
                        100 * row["routing_weight_removed"].get<double>());
  }
  return text;
}

absl::Status ReadIdentity(const BuildArguments& arguments, Policy* policy) {
  MONET_ASSIGN_OR_RETURN(const auto name, TextOf(arguments.name));
  MONET_ASSIGN_OR_RETURN(const auto version, Int32Of(arguments.version));
  MONET_ASSIGN_OR_RETURN(const auto description, TextOf(arguments.description));
  policy->name = *name;
  policy->version = version.value_or(1);
  policy->description = description.value_or("");
  if (!IsPolicyName(policy->name)) {
    return InvalidArgument("--name is '{}', must be lower-case letters, digits and inner hyphens",
                           policy->name);
  }
  if (policy->version < 1) return InvalidArgument("--version must be at least 1");
  return absl::OkStatus();
}

absl::StatusOr<Draft> MakeDraft(const BuildArguments& arguments,
                                const std::optional<Found>& found) {
  MONET_ASSIGN_OR_RETURN(const auto united, ReadPolicies(arguments.unite));
  MONET_ASSIGN_OR_RETURN(const auto without, ReadPolicies(arguments.minus));
  MONET_ASSIGN_OR_RETURN(Draft draft, Begin(found, united));
  MONET_ASSIGN_OR_RETURN(const auto kept, ReadKept(arguments.keep, draft.shape));
  if (found) TellRule(*found, &draft.built);
  MONET_RETURN_IF_ERROR(Apply(united, true, "union", &draft));
  MONET_RETURN_IF_ERROR(Apply(without, false, "minus", &draft));
  MONET_RETURN_IF_ERROR(Keep(*kept, &draft));
  return draft;
}

absl::Status RunBuild(const BuildArguments& arguments, const Session& session) {
  Policy policy;
  MONET_RETURN_IF_ERROR(ReadIdentity(arguments, &policy));
  MONET_ASSIGN_OR_RETURN(const auto out, TextOf(arguments.out));
  MONET_ASSIGN_OR_RETURN(const std::optional<Found> found, Find(arguments));
  const Found* const rule = found ? &*found : nullptr;
  MONET_ASSIGN_OR_RETURN(const Draft draft, MakeDraft(arguments, found));
  policy.model = draft.model;
  policy.mask = MaskOf(draft);
  if (policy.mask->empty()) {
    return MarkCallFailed(Error(absl::StatusCode::kFailedPrecondition,
                                "null: no expert passes, so there is no policy to write"));
  }
  if (policy.description.empty()) policy.description = Describe(rule, *policy.mask);
  MONET_ASSIGN_OR_RETURN(const PolicyFile file, MakePolicyFile(policy, draft.built.dump()));
  std::error_code error;
  std::filesystem::create_directory(*out, error);  // if it cannot be, PushPolicy says so
  const auto pushed = PushPolicy(file, fmt::format("{}.yaml", policy.version), *out);
  if (!pushed.ok()) {
    return Error(pushed.status().code(), "{}: {}", *out, Message(pushed.status()));
  }
  const Json report = Report(file.policy, draft, rule);
  return session.console->Write(arguments.json ? Line(report) : ReportText(report));
}

}  // namespace

Command AddPolicyBuild(CLI::App* policy) {
  CLI::App* app = policy->add_subcommand("build", "Make a policy from statistics, by a rule");
  app->footer(kExample);
  auto arguments = std::make_shared<BuildArguments>(app);
  return {app, [arguments](const Session& session) { return RunBuild(*arguments, session); }};
}

}  // namespace monet::cli
