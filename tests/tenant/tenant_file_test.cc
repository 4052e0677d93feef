// tenants.yaml is read whole and strictly: every mistake is told with its key and line.
#include "runtime/tenant/tenant_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace monet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kWhole[] = R"(# two tenants
gateway:
  subjects: ["CN=envoy"]
tenants:
- name: acme
  require: [no-insults@1]
  allow: [no-python, no-java@3]
  explicit_masks: true
  shadow: []
  subjects: ["CN=acme", "spiffe://mesh/acme"]
  cache_domain: shared
  weight: 5
  limits:
    requests_per_minute: 600
    tokens_per_minute: 100000
    concurrent: 32
    distinct_masks: 8
    max_prompt_tokens: 256
    max_tokens: 1024
    max_n: 4
    max_top_logprobs: 0
    max_priority: 7
- name: beta
  allow: all
)";

std::string ErrorOf(const std::string& yaml) {
  const auto file = ParseTenants(yaml);
  return file.ok() ? "no error" : Message(file.status());
}

// The error of a file with one tenant, acme, and these lines below its name (line 2).
std::string ErrorOfLines(const std::string& lines) {
  return ErrorOf("tenants:\n- name: acme\n" + lines);
}

TEST(TenantFile, HoldsEverything) {
  const auto file = ParseTenants(kWhole);
  ASSERT_TRUE(file.ok()) << Message(file.status());
  EXPECT_EQ(file->gateway_subjects, std::vector<std::string>{"CN=envoy"});
  ASSERT_EQ(file->tenants.size(), 2u);
  const Tenant& acme = *file->tenants[0];
  EXPECT_EQ(acme.name, "acme");
  ASSERT_EQ(acme.require.size(), 1u);
  EXPECT_EQ(acme.require[0].ToString(), "no-insults@1");
  ASSERT_EQ(acme.allow.size(), 2u);
  EXPECT_FALSE(acme.allow_all);
  EXPECT_TRUE(acme.explicit_masks);
  EXPECT_EQ(acme.subjects.size(), 2u);
  EXPECT_EQ(acme.cache_domain, "shared");
  EXPECT_EQ(acme.weight, 5);
  EXPECT_EQ(acme.limits.requests_per_minute, 600);
  EXPECT_EQ(acme.limits.tokens_per_minute, 100000);
  EXPECT_EQ(acme.limits.concurrent, 32);
  EXPECT_EQ(acme.limits.distinct_masks, 8);
  EXPECT_EQ(acme.limits.max_prompt_tokens, 256);
  EXPECT_EQ(acme.limits.max_tokens, 1024);
  EXPECT_EQ(acme.limits.max_n, 4);
  EXPECT_EQ(acme.limits.max_top_logprobs, 0);
  EXPECT_EQ(acme.limits.max_priority, 7);
  EXPECT_EQ(acme.lines.at(""), 5);
  EXPECT_EQ(acme.lines.at("require[0]"), 6);
  EXPECT_EQ(acme.lines.at("limits.concurrent"), 16);
}

TEST(TenantFile, SaysNothingGivesNothing) {
  const auto file = ParseTenants(kWhole);
  ASSERT_TRUE(file.ok());
  const Tenant& beta = *file->tenants[1];
  EXPECT_TRUE(beta.allow_all);
  EXPECT_TRUE(beta.require.empty());
  EXPECT_FALSE(beta.explicit_masks);
  EXPECT_EQ(beta.cache_domain, "beta");
  EXPECT_EQ(beta.weight, 1);
  EXPECT_FALSE(beta.limits.concurrent.has_value());
  const auto bare = ParseTenants("tenants:\n- name: a\n");
  ASSERT_TRUE(bare.ok());
  EXPECT_FALSE(bare->tenants[0]->allow_all);
  EXPECT_TRUE(bare->tenants[0]->allow.empty());
}

TEST(TenantFile, AllowFitsByNameVersionOrDigest) {
  const auto file = ParseTenants("tenants:\n- name: a\n  allow: [x, y@2]\n");
  ASSERT_TRUE(file.ok());
  const Tenant& tenant = *file->tenants[0];
  const auto policy = [](const char* name, int32_t version) {
    Policy made;
    made.name = name;
    made.version = version;
    return made;
  };
  EXPECT_TRUE(tenant.Allows(policy("x", 1)));
  EXPECT_TRUE(tenant.Allows(policy("x", 9)));
  EXPECT_TRUE(tenant.Allows(policy("y", 2)));
  EXPECT_FALSE(tenant.Allows(policy("y", 1)));
  EXPECT_FALSE(tenant.Allows(policy("z", 1)));
}

TEST(TenantFile, MisspeltAndDuplicateKeysAreErrors) {
  EXPECT_THAT(ErrorOf("tenant:\n- name: a\n"), AllOf(HasSubstr("tenant"), HasSubstr("line 1")));
  EXPECT_THAT(ErrorOfLines("  requires: [a]\n"),
              AllOf(HasSubstr("tenants[0].requires (line 3)"), HasSubstr("unknown key")));
  EXPECT_THAT(ErrorOfLines("  limits: {concurent: 3}\n"),
              AllOf(HasSubstr("tenants[0].limits.concurent (line 3)"), HasSubstr("unknown key")));
  EXPECT_THAT(ErrorOfLines("  require: [a]\n  require: [b]\n"),
              AllOf(HasSubstr("line 4"), HasSubstr("duplicate key require")));
  EXPECT_THAT(ErrorOf("tenants:\n- name: a\n- name: b\n- name: a\n"),
              AllOf(HasSubstr("tenants[2].name (line 4)"), HasSubstr("first in line 2")));
}

TEST(TenantFile, RefusesBadValues) {
  EXPECT_THAT(ErrorOf("tenants:\n- name: Acme\n"), HasSubstr("tenants[0].name (line 2)"));
  EXPECT_THAT(ErrorOf("tenants:\n- name: other\n"), HasSubstr("metrics"));
  EXPECT_THAT(ErrorOf("tenants:\n- require: [a]\n"), HasSubstr("tenants[0].name"));
  EXPECT_THAT(ErrorOfLines("  require: no-insults\n"), HasSubstr("must be a list"));
  EXPECT_THAT(ErrorOfLines("  require: ['../x']\n"), HasSubstr("tenants[0].require[0] (line 3)"));
  EXPECT_THAT(ErrorOfLines("  require: [a@0]\n"), HasSubstr("name@version"));
  EXPECT_THAT(ErrorOfLines("  require: [a, a]\n"), HasSubstr("tenants[0].require[1]"));
  EXPECT_THAT(ErrorOfLines("  allow: some\n"), HasSubstr("the word all"));
  EXPECT_THAT(ErrorOfLines("  explicit_masks: yes\n"), HasSubstr("true or false"));
  EXPECT_THAT(ErrorOfLines("  limits: {concurrent: 0}\n"), HasSubstr("from 1 to 100000"));
  EXPECT_THAT(ErrorOfLines("  limits: {concurrent: 1.5}\n"), HasSubstr("from 1 to 100000"));
  EXPECT_THAT(ErrorOfLines("  limits: {tokens_per_minute: 9999999999999999999}\n"),
              HasSubstr("limits.tokens_per_minute"));
  EXPECT_THAT(ErrorOfLines("  weight: 0\n"), HasSubstr("from 1 to 1000"));
  EXPECT_THAT(ErrorOfLines("  cache_domain: ''\n"), HasSubstr("cache_domain"));
  EXPECT_THAT(ErrorOfLines("  subjects: ['']\n"), HasSubstr("is empty"));
  std::string many = "  require: [";
  for (int i = 0; i < 33; ++i) many += fmt::format("{}p{}", i == 0 ? "" : ", ", i);
  EXPECT_THAT(ErrorOfLines(many + "]\n"), HasSubstr("33 entries, limit 32"));
  EXPECT_NE(ErrorOf(""), "no error");
  EXPECT_NE(ErrorOf("[]"), "no error");
}

TEST(TenantFile, ShadowIsCheckedAndNotPretended) {
  EXPECT_THAT(ErrorOfLines("  require: [a@1]\n  shadow: [a@2]\n"),
              AllOf(HasSubstr("tenants[0].shadow (line 4)"), HasSubstr("require")));
  EXPECT_EQ(ErrorOfLines("  require: [b]\n  shadow: [a, c@2]\n"), "no error");
  EXPECT_EQ(ErrorOfLines("  shadow: []\n"), "no error");
}

TEST(TenantFile, SubjectsHaveOneOwner) {
  EXPECT_THAT(ErrorOf("tenants:\n- name: a\n  subjects: [x]\n- name: b\n  subjects: [y, x]\n"),
              AllOf(HasSubstr("tenants[1].subjects (line 5)"), HasSubstr("a and b")));
  EXPECT_THAT(ErrorOf("gateway: {subjects: [x]}\ntenants:\n- name: a\n  subjects: [x]\n"),
              HasSubstr("the gateway and a"));
  EXPECT_THAT(ErrorOf("tenants:\n- name: anonymous\n  subjects: [x]\n"),
              HasSubstr("without credentials"));
}

}  // namespace
}  // namespace monet
