#include "runtime/tenant/tenant_file.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "runtime/base/strict_yaml.h"
#include "runtime/limits.h"

namespace monet {
namespace {

// Label of the metrics of all tenants beyond the cap.
constexpr std::string_view kOther = "other";

// One limit: its key, its range, its place.
struct LimitKey {
  const char* key;
  int64_t min;
  int64_t max;
  std::optional<int64_t> TenantLimits::*value;
};
constexpr LimitKey kLimitKeys[] = {
    {"requests_per_minute", 1, limits::kMaxPerMinute, &TenantLimits::requests_per_minute},
    {"tokens_per_minute", 1, limits::kMaxPerMinute, &TenantLimits::tokens_per_minute},
    {"concurrent", 1, limits::kMaxConcurrent, &TenantLimits::concurrent},
    {"distinct_masks", 1, limits::kMaxMaskSlots, &TenantLimits::distinct_masks},
    {"max_prompt_tokens", 1, limits::kMaxContext, &TenantLimits::max_prompt_tokens},
    {"max_tokens", 1, limits::kMaxContext, &TenantLimits::max_tokens},
    {"max_n", 1, limits::kMaxCompletions, &TenantLimits::max_n},
    {"max_top_logprobs", 0, limits::kMaxTopLogprobs, &TenantLimits::max_top_logprobs},
    {"max_priority", 0, limits::kMaxPriority, &TenantLimits::max_priority},
};

absl::Status ReadReferences(const YamlView& list, size_t max, const std::string& key,
                            Tenant* tenant, std::vector<PolicyReference>* out) {
  if (!list.present()) return absl::OkStatus();
  MONET_ASSIGN_OR_RETURN(const std::vector<YamlView> entries, list.Sequence(max));
  tenant->lines[key] = list.line();
  for (const YamlView& entry : entries) {
    MONET_ASSIGN_OR_RETURN(const std::string text, entry.String(limits::kMaxPolicyReferenceBytes));
    PolicyReference reference;
    if (!PolicyReference::Parse(text, &reference)) {
      return entry.Fail(
          "must be name, name@version or name@sha256:<64 lower-case hexadecimal digits>");
    }
    if (std::find(out->begin(), out->end(), reference) != out->end()) {
      return entry.Fail("is given twice");
    }
    tenant->lines[fmt::format("{}[{}]", key, out->size())] = entry.line();
    out->push_back(std::move(reference));
  }
  return absl::OkStatus();
}

absl::Status ReadAllow(const YamlView& allow, Tenant* tenant) {
  if (allow.present() && !allow.Sequence(limits::kMaxPolicies).ok()) {
    const auto word = allow.AnyScalar(limits::kMaxPolicyReferenceBytes);
    if (word.ok() && *word == "all") {
      tenant->allow_all = true;
      tenant->lines["allow"] = allow.line();
      return absl::OkStatus();
    }
    if (word.ok()) return allow.Fail("must be a list of policies, or the word all");
  }
  return ReadReferences(allow, limits::kMaxPolicies, "allow", tenant, &tenant->allow);
}

absl::Status ReadShadow(const YamlView& shadow, Tenant* tenant) {
  MONET_RETURN_IF_ERROR(
      ReadReferences(shadow, limits::kMaxPolicies, "shadow", tenant, &tenant->shadow));
  for (const PolicyReference& entry : tenant->shadow) {
    for (const PolicyReference& required : tenant->require) {
      if (entry.name == required.name) {
        return shadow.Fail(fmt::format("{} is in require, too", entry.name));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSubjects(const YamlView& list, std::vector<std::string>* out) {
  if (!list.present()) return absl::OkStatus();
  MONET_ASSIGN_OR_RETURN(const std::vector<YamlView> entries, list.Sequence(limits::kMaxSubjects));
  for (const YamlView& entry : entries) {
    MONET_ASSIGN_OR_RETURN(std::string subject, entry.String(limits::kMaxSubjectBytes));
    if (subject.empty()) return entry.Fail("is empty");
    out->push_back(std::move(subject));
  }
  return absl::OkStatus();
}

absl::Status ReadLimits(const YamlView& view, Tenant* tenant) {
  if (!view.present()) return absl::OkStatus();
  MONET_RETURN_IF_ERROR(view.CheckKeys(
      {}, {"requests_per_minute", "tokens_per_minute", "concurrent", "distinct_masks",
           "max_prompt_tokens", "max_tokens", "max_n", "max_top_logprobs", "max_priority"}));
  tenant->lines["limits"] = view.line();
  for (const LimitKey& limit : kLimitKeys) {
    const YamlView value = view[limit.key];
    if (!value.present()) continue;
    MONET_ASSIGN_OR_RETURN(tenant->limits.*limit.value, value.Integer(limit.min, limit.max));
    tenant->lines[fmt::format("limits.{}", limit.key)] = value.line();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadName(const YamlView& view) {
  MONET_ASSIGN_OR_RETURN(std::string name, view.String(limits::kMaxPolicyNameBytes));
  if (!IsPolicyName(name)) {
    return view.Fail("must be lower-case letters, digits and inner hyphens");
  }
  return name;
}

absl::StatusOr<Tenant> ReadTenant(const YamlView& view) {
  MONET_RETURN_IF_ERROR(view.CheckKeys({"name"}, {"require", "allow", "shadow", "explicit_masks",
                                                  "subjects", "limits", "cache_domain", "weight"}));
  Tenant tenant;
  tenant.lines[""] = view["name"].line();
  MONET_ASSIGN_OR_RETURN(tenant.name, ReadName(view["name"]));
  if (tenant.name == kOther) return view["name"].Fail("other is taken by the metrics");
  MONET_RETURN_IF_ERROR(ReadReferences(view["require"], limits::kMaxMandatoryPolicies, "require",
                                       &tenant, &tenant.require));
  MONET_RETURN_IF_ERROR(ReadAllow(view["allow"], &tenant));
  MONET_RETURN_IF_ERROR(ReadShadow(view["shadow"], &tenant));
  if (const YamlView masks = view["explicit_masks"]; masks.present()) {
    MONET_ASSIGN_OR_RETURN(tenant.explicit_masks, masks.Bool());
    tenant.lines["explicit_masks"] = masks.line();
  }
  MONET_RETURN_IF_ERROR(ReadSubjects(view["subjects"], &tenant.subjects));
  if (!tenant.subjects.empty()) {
    tenant.lines["subjects"] = view["subjects"].line();
    if (tenant.name == kAnonymous) {
      return view["subjects"].Fail("anonymous is for callers without credentials");
    }
  }
  MONET_RETURN_IF_ERROR(ReadLimits(view["limits"], &tenant));
  tenant.cache_domain = tenant.name;
  if (const YamlView domain = view["cache_domain"]; domain.present()) {
    MONET_ASSIGN_OR_RETURN(tenant.cache_domain, ReadName(domain));
    tenant.lines["cache_domain"] = domain.line();
  }
  if (const YamlView weight = view["weight"]; weight.present()) {
    MONET_ASSIGN_OR_RETURN(const int64_t value, weight.Integer(1, limits::kMaxTenantWeight));
    tenant.weight = static_cast<int32_t>(value);
    tenant.lines["weight"] = weight.line();
  }
  return tenant;
}

// Whose each subject is: "gateway" or the tenant's name.
absl::Status ClaimSubjects(const YamlView& view, const std::vector<std::string>& subjects,
                           const std::string& owner, std::map<std::string, std::string>* owners) {
  for (const std::string& subject : subjects) {
    const auto [claimed, is_new] = owners->emplace(subject, owner);
    if (!is_new) {
      return view.Fail(
          fmt::format("a subject is given twice, to {} and {}", claimed->second, owner));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TenantFile> ParseTenants(std::string_view yaml) {
  MONET_ASSIGN_OR_RETURN(const YamlNode tree, ParseStrictYaml(yaml, limits::kMaxTenantFileBytes));
  const YamlView root(tree);
  MONET_RETURN_IF_ERROR(root.CheckKeys({"tenants"}, {"gateway"}));
  TenantFile file;
  std::map<std::string, std::string> owners;
  if (const YamlView gateway = root["gateway"]; gateway.present()) {
    MONET_RETURN_IF_ERROR(gateway.CheckKeys({"subjects"}, {}));
    MONET_RETURN_IF_ERROR(ReadSubjects(gateway["subjects"], &file.gateway_subjects));
    MONET_RETURN_IF_ERROR(
        ClaimSubjects(gateway["subjects"], file.gateway_subjects, "the gateway", &owners));
  }
  MONET_ASSIGN_OR_RETURN(const std::vector<YamlView> entries,
                         root["tenants"].Sequence(limits::kMaxTenants));
  std::map<std::string, int32_t> names;
  for (const YamlView& entry : entries) {
    MONET_ASSIGN_OR_RETURN(Tenant tenant, ReadTenant(entry));
    const auto [first, is_new] = names.emplace(tenant.name, entry["name"].line());
    if (!is_new) {
      return entry["name"].Fail(
          fmt::format("{} is given twice, first in line {}", tenant.name, first->second));
    }
    MONET_RETURN_IF_ERROR(ClaimSubjects(entry["subjects"], tenant.subjects, tenant.name, &owners));
    file.tenants.push_back(std::make_shared<const Tenant>(std::move(tenant)));
  }
  return file;
}

}  // namespace monet
