// monetctl tenants: what tenants.yaml and keys.yaml say, without a server.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/options.h"
#include "runtime/limits.h"
#include "runtime/model/checkpoint.h"
#include "runtime/model/fingerprint.h"
#include "runtime/tenant/mandatory_policies.h"
#include "runtime/tenant/named_policies.h"
#include "runtime/tenant/tenant_registry.h"

namespace monet::cli {
namespace {

constexpr char kCheckExample[] =
    "Examples:\n"
    "  monetctl tenants check tenants.yaml --keys keys.yaml\n"
    "  monetctl tenants check tenants.yaml --policies policies --model models/demo\n\n"
    "Says the first error with its file, line and key and exits with 2. With policies and model "
    "it\n"
    "is also an error when a mandatory policy is not there, and a warning on standard error when\n"
    "one of allow or shadow is not; warnings leave the exit code 0. monet-server --check does all\n"
    "of it.";

constexpr char kExplainExample[] =
    "Example:\n"
    "  monetctl tenants explain --tenant acme tenants.yaml --keys keys.yaml\n\n"
    "Each line ends with where it stands; what stands nowhere is a default.";

struct FileArguments {
  explicit FileArguments(CLI::App* app) {
    file = AddValue(app, "FILE", "", "tenants.yaml")->required();
    keys = AddValue(app, "--keys", "FILE", "keys.yaml");
  }
  absl::StatusOr<TenantPaths> Paths() const {
    MONET_ASSIGN_OR_RETURN(const auto tenants_path, TextOf(file));
    MONET_ASSIGN_OR_RETURN(const auto keys_path, TextOf(keys));
    if (tenants_path->empty()) return InvalidArgument("FILE is empty");
    return TenantPaths{*tenants_path, keys_path.value_or("")};
  }

  CLI::Option *file, *keys;
};

struct CheckArguments {
  explicit CheckArguments(CLI::App* app) : files(app) {
    policies = AddValue(app, "--policies", "DIR", "Policy directory; needs --model");
    model = AddValue(app, "--model", "DIR", "Checkpoint directory; needs --policies");
  }

  FileArguments files;
  CLI::Option *policies, *model;
};

struct ExplainArguments {
  explicit ExplainArguments(CLI::App* app) : files(app) {
    tenant = AddValue(app, "--tenant", "NAME", "Which tenant")->required();
  }

  FileArguments files;
  CLI::Option* tenant;
};

absl::StatusOr<std::shared_ptr<const PolicySnapshot>> ReadPolicies(const std::string& policies,
                                                                   const std::string& model) {
  auto checkpoint = Checkpoint::Open(model);
  if (!checkpoint.ok()) return InvalidArgument("{}: {}", model, Message(checkpoint.status()));
  const auto threads = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  MONET_ASSIGN_OR_RETURN(const Digest fingerprint, FingerprintCheckpoint(**checkpoint, threads));
  const ModelConfig& config = (*checkpoint)->config();
  auto snapshot =
      PolicySnapshot::Load(policies, fingerprint, MaskShape{config.Routers(), config.experts});
  if (!snapshot.ok()) return InvalidArgument("{}: {}", policies, Message(snapshot.status()));
  return snapshot;
}

// Tenants that nobody can call as: a mistake more often than not, and no error.
std::string Idle(const TenantSet& set) {
  std::string notes;
  for (const auto& tenant : set.tenants()) {
    const bool has_key = std::any_of(set.keys().begin(), set.keys().end(),
                                     [&](const KeyEntry& k) { return k.tenant == tenant->name; });
    if (has_key || !tenant->subjects.empty() || tenant->name == kAnonymous) continue;
    notes += fmt::format("note: tenant {} (line {}) has no key and no subject\n", tenant->name,
                         tenant->lines.at(""));
  }
  return notes;
}

absl::Status RunCheck(const CheckArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const TenantPaths paths, arguments.files.Paths());
  MONET_ASSIGN_OR_RETURN(const auto policies, TextOf(arguments.policies));
  MONET_ASSIGN_OR_RETURN(const auto model, TextOf(arguments.model));
  if (policies.has_value() != model.has_value()) {
    return InvalidArgument("--policies and --model are given together or not at all");
  }
  MONET_ASSIGN_OR_RETURN(const auto set, ReadTenantSet(paths));
  std::string text;
  if (!paths.keys.empty()) text += Idle(*set);
  text += fmt::format("{} tenants, {} keys", set->tenants().size(), set->keys().size());
  std::shared_ptr<const PolicySnapshot> snapshot;
  if (policies) {
    MONET_ASSIGN_OR_RETURN(snapshot, ReadPolicies(*policies, *model));
  }
  const auto warnings = WarnOfNames(*set, snapshot.get(), paths.tenants.filename().string());
  for (const std::string& warning : warnings) {
    session.console->PrintError("monetctl: warning: " + warning);
  }
  if (snapshot != nullptr) {
    const auto unresolved = FindUnresolved(*set, *snapshot);
    if (!unresolved.empty()) return InvalidArgument("{}", Describe(unresolved));
    text += ", every mandatory policy is there";
  } else {
    text += ", policies not looked up (--policies, --model)";
  }
  if (!warnings.empty()) {
    text += fmt::format(", {} warning{}", warnings.size(), warnings.size() == 1 ? "" : "s");
  }
  return session.console->Write(text + "\nok\n");
}

// "  no-insults@1              tenants.yaml:6"
class Explanation {
 public:
  Explanation(const Tenant& tenant, std::string file) : tenant_(tenant), file_(std::move(file)) {}

  void Heading(const std::string& text) { text_ += text + "\n"; }
  // A line with the place of `key`, or "default" when the file does not have it.
  void Line(const std::string& what, const std::string& key) {
    const auto line = tenant_.lines.find(key);
    Place(what, line == tenant_.lines.end() ? "default" : At(file_, line->second));
  }
  void Place(const std::string& what, const std::string& place) {
    text_ += fmt::format("  {:<40}  {}\n", what, place);
  }
  static std::string At(const std::string& file, int32_t line) {
    return fmt::format("{}:{}", file, line);
  }
  std::string Take() { return std::move(text_); }

 private:
  const Tenant& tenant_;
  const std::string file_;
  std::string text_;
};

void ExplainPolicies(const Tenant& tenant, Explanation* out) {
  out->Heading("always on");
  for (size_t i = 0; i < tenant.require.size(); ++i) {
    out->Line(tenant.require[i].ToString(), fmt::format("require[{}]", i));
  }
  if (tenant.require.empty()) out->Line("nothing", "require");
  out->Heading("may be asked for");
  for (size_t i = 0; i < tenant.allow.size(); ++i) {
    out->Line(tenant.allow[i].ToString(), fmt::format("allow[{}]", i));
  }
  if (tenant.allow.empty()) out->Line(tenant.allow_all ? "every policy" : "no policy", "allow");
  out->Line(fmt::format("explicit experts: {}", tenant.explicit_masks ? "yes" : "no"),
            "explicit_masks");
  if (tenant.shadow.empty()) return;
  out->Heading("measured, not applied");
  for (size_t i = 0; i < tenant.shadow.size(); ++i) {
    out->Line(tenant.shadow[i].ToString(), fmt::format("shadow[{}]", i));
  }
}

void ExplainLimits(const Tenant& tenant, Explanation* out) {
  out->Heading("limits");
  const TenantLimits& limits = tenant.limits;
  const std::pair<const char*, std::optional<int64_t>> rows[] = {
      {"requests_per_minute", limits.requests_per_minute},
      {"tokens_per_minute", limits.tokens_per_minute},
      {"concurrent", limits.concurrent},
      {"distinct_masks", limits.distinct_masks},
      {"max_prompt_tokens", limits.max_prompt_tokens},
      {"max_tokens", limits.max_tokens},
      {"max_n", limits.max_n},
      {"max_top_logprobs", limits.max_top_logprobs},
      {"max_priority", limits.max_priority.value_or(0)}};
  for (const auto& [name, value] : rows) {
    out->Line(value ? fmt::format("{}: {}", name, *value) : fmt::format("{}: the server's", name),
              fmt::format("limits.{}", name));
  }
}

void ExplainCallers(const TenantSet& set, const Tenant& tenant, const std::string& keys_file,
                    Explanation* out) {
  out->Heading("called by");
  for (const KeyEntry& key : set.keys()) {
    if (key.tenant != tenant.name) continue;
    std::string what = fmt::format("key {}", key.id.empty() ? "without id" : key.id);
    if (key.not_after) what += fmt::format(", until {}", FormatUtcTime(*key.not_after));
    out->Place(what, Explanation::At(keys_file, key.line));
  }
  for (const std::string& subject : tenant.subjects) {
    out->Line(fmt::format("certificate of {}", subject), "subjects");
  }
  if (tenant.name == kAnonymous) out->Line("everybody without credentials", "");
}

absl::Status RunExplain(const ExplainArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const TenantPaths paths, arguments.files.Paths());
  MONET_ASSIGN_OR_RETURN(const auto name, TextOf(arguments.tenant));
  MONET_ASSIGN_OR_RETURN(const auto set, ReadTenantSet(paths));
  const auto tenant = set->Find(*name);
  const std::string file = paths.tenants.filename().string();
  if (tenant == nullptr) return InvalidArgument("{}: there is no tenant {}", file, *name);
  Explanation out(*tenant, file);
  out.Heading(fmt::format("tenant {}", tenant->name));
  ExplainPolicies(*tenant, &out);
  ExplainLimits(*tenant, &out);
  out.Heading("shares");
  out.Line(fmt::format("weight: {}", tenant->weight), "weight");
  out.Line(fmt::format("cache_domain: {} (no prefix cache yet)", tenant->cache_domain),
           "cache_domain");
  ExplainCallers(*set, *tenant, paths.keys.filename().string(), &out);
  return session.console->Write(out.Take());
}

}  // namespace

Command AddTenants(CLI::App* root) {
  CLI::App* app = root->add_subcommand("tenants", "Check and explain tenants.yaml");
  app->require_subcommand(1);
  CLI::App* check = app->add_subcommand("check", "Check the files of the tenants");
  check->footer(kCheckExample);
  auto checking = std::make_shared<CheckArguments>(check);
  CLI::App* explain =
      app->add_subcommand("explain", "What a tenant always runs under, may ask for and how much");
  explain->footer(kExplainExample);
  auto explaining = std::make_shared<ExplainArguments>(explain);
  return {app, [check, checking, explaining](const Session& session) {
            return check->parsed() ? RunCheck(*checking, session)
                                   : RunExplain(*explaining, session);
          }};
}

}  // namespace monet::cli
