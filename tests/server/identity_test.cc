// Mandatory policies hold on every call, and a tenant names only what it may.
#include "server/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "runtime/tenant/mandatory_policies.h"

namespace monet::server {
namespace {

using ::testing::HasSubstr;

constexpr MaskShape kShape{2, 4};

// Policies "always" (router 0, row 0: 4 experts), "other" (router 1, column 1: 4 experts).
class ResolveCallMaskTest : public ::testing::Test {
 protected:
  ResolveCallMaskTest() {
    root_ = std::filesystem::path(::testing::TempDir()) / "monet-identity-policies";
    std::filesystem::remove_all(root_);
    WritePolicy("always", "{router: 0, rows: [0]}");
    WritePolicy("other", "{router: 1, columns: [1]}");
    Reload();
  }
  void Reload() {
    const auto snapshot = PolicySnapshot::Load(root_, Digest(), kShape);
    ASSERT_TRUE(snapshot.ok()) << Message(snapshot.status());
    snapshot_ = *snapshot;
  }
  void WritePolicy(const std::string& name, const std::string& experts,
                   const Digest& model = Digest()) {
    std::filesystem::create_directories(root_ / name);
    std::ofstream(root_ / name / "1.yaml")
        << "format: 1\nname: " << name << "\nversion: 1\nmodel: " << model.ToString()
        << "\nsemantics: zero\nrouters: 2\nexperts_per_side: 4\nexperts: {inline: [" << experts
        << "]}\n";
  }

  std::filesystem::path root_;
  std::shared_ptr<const PolicySnapshot> snapshot_;
  Tenant tenant_ = *OpenTenant();
};

TEST_F(ResolveCallMaskTest, AShadowIsAllOfItsPoliciesThatCanBeHad) {
  EXPECT_EQ(ResolveShadow(*snapshot_, tenant_), nullptr);
  tenant_.shadow.resize(1);
  ASSERT_TRUE(PolicyReference::Parse("missing", &tenant_.shadow[0]));
  EXPECT_EQ(ResolveShadow(*snapshot_, tenant_), nullptr);
  tenant_.shadow.resize(3);
  ASSERT_TRUE(PolicyReference::Parse("always", &tenant_.shadow[1]));
  ASSERT_TRUE(PolicyReference::Parse("other@1", &tenant_.shadow[2]));
  const auto shadow = ResolveShadow(*snapshot_, tenant_);
  ASSERT_NE(shadow, nullptr);
  EXPECT_EQ(shadow->removed(), 8);
  EXPECT_TRUE(ResolveCallMask(*snapshot_, tenant_, {})->mask->empty());
}

TEST_F(ResolveCallMaskTest, AnonymousMayDoEverything) {
  const auto mask = ResolveCallMask(*snapshot_, tenant_, {{"other"}, {{.router = 0, .ids = {5}}}});
  ASSERT_TRUE(mask.ok()) << Message(mask.status());
  EXPECT_EQ(mask->mask->removed(), 5);
  const auto none = ResolveCallMask(*snapshot_, tenant_, {});
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->mask->empty());
}

TEST_F(ResolveCallMaskTest, MandatoryPoliciesHoldWhateverTheRequestSays) {
  tenant_.require = {{.name = "always", .version = 1}};
  auto mask = ResolveCallMask(*snapshot_, tenant_, {});
  ASSERT_TRUE(mask.ok());
  EXPECT_EQ(mask->mask->removed(), 4);
  ASSERT_EQ(mask->policies.size(), 1u);
  EXPECT_EQ(mask->policies[0]->name, "always");
  EXPECT_TRUE(IsMandatory(*snapshot_, tenant_, *mask->policies[0]));
  mask = ResolveCallMask(*snapshot_, tenant_, {{"other"}, {}});
  ASSERT_TRUE(mask.ok());
  EXPECT_EQ(mask->mask->removed(), 8);
  EXPECT_EQ(mask->policies.size(), 2u);
}

TEST_F(ResolveCallMaskTest, MissingMandatoryPolicyRefusesTheCall) {
  tenant_.require = {{.name = "gone"}};
  const auto mask = ResolveCallMask(*snapshot_, tenant_, {{"other"}, {}});
  EXPECT_EQ(mask.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(mask.status()), ::testing::Not(HasSubstr("gone")));
}

TEST_F(ResolveCallMaskTest, TenantsNameOnlyWhatTheyMay) {
  tenant_.allow_all = false;
  tenant_.explicit_masks = false;
  EXPECT_EQ(ResolveCallMask(*snapshot_, tenant_, {{"other"}, {}}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(ResolveCallMask(*snapshot_, tenant_, {{}, {{.router = 0, .ids = {1}}}}).status().code(),
            absl::StatusCode::kPermissionDenied);
  tenant_.allow = {{.name = "other"}};
  EXPECT_TRUE(ResolveCallMask(*snapshot_, tenant_, {{"other"}, {}}).ok());
  EXPECT_FALSE(ResolveCallMask(*snapshot_, tenant_, {{"always"}, {}}).ok());
  tenant_.require = {{.name = "always"}};  // what holds anyway may also be named
  EXPECT_TRUE(ResolveCallMask(*snapshot_, tenant_, {{"always"}, {}}).ok());
}

TEST_F(ResolveCallMaskTest, UnknownPolicyIsNotFound) {
  EXPECT_EQ(ResolveCallMask(*snapshot_, tenant_, {{"nobody"}, {}}).status().code(),
            absl::StatusCode::kNotFound);
}

// Names cannot be probed: what a tenant may not name answers as what is not there.
TEST_F(ResolveCallMaskTest, OthersPoliciesAnswerLikeUnknownOnes) {
  WritePolicy("foreign", "{router: 0, rows: [0]}", Sha256({}));
  ASSERT_NO_FATAL_FAILURE(Reload());
  EXPECT_EQ(ReasonOf(ResolveCallMask(*snapshot_, tenant_, {{"foreign"}, {}}).status()).reason,
            Reason::kPolicyModelMismatch);
  tenant_.allow_all = false;
  tenant_.allow = {{.name = "other", .version = 1}};
  const auto refusal = [&](const std::string& name) {
    const absl::Status status = ResolveCallMask(*snapshot_, tenant_, {{name}, {}}).status();
    EXPECT_EQ(ReasonOf(status).reason, Reason::kPolicyUnknown) << name;
    EXPECT_EQ(FieldOf(status), "mask.policies[0]");
    std::string text = Message(status);
    if (const size_t at = text.find(name); at != std::string::npos)
      text.replace(at, name.size(), "");
    EXPECT_EQ(FindVisible(*snapshot_, tenant_, name).status().code(), absl::StatusCode::kNotFound);
    return text;
  };
  const std::string unknown = refusal("nobody");
  for (const char* name : {"always", "always@1", "always@7", "foreign", "other@2"}) {
    EXPECT_EQ(refusal(name), unknown) << name;
  }
  EXPECT_TRUE(ResolveCallMask(*snapshot_, tenant_, {{"other@1"}, {}}).ok());
  EXPECT_TRUE(ResolveCallMask(*snapshot_, tenant_, {{"other"}, {}}).ok());
}

// A tenant's own policies leave the request all of its room.
TEST_F(ResolveCallMaskTest, MandatoryPoliciesDoNotCountTowardsTheRequestsLimit) {
  for (size_t i = 0; i < limits::kMaxMandatoryPolicies; ++i) {
    WritePolicy(fmt::format("m{}", i), fmt::format("{{router: 0, ids: [{}]}}", i % 8));
    tenant_.require.push_back({.name = fmt::format("m{}", i)});
  }
  ASSERT_NO_FATAL_FAILURE(Reload());
  const MaskChoice choice{std::vector<std::string>(limits::kMaxRequestPolicies, "other"), {}};
  const auto mask = ResolveCallMask(*snapshot_, tenant_, choice);
  ASSERT_TRUE(mask.ok()) << Message(mask.status());
  EXPECT_EQ(mask->policies.size(), limits::kMaxMandatoryPolicies + 1);
  EXPECT_EQ(mask->mask->removed(), 8 + 4);
}

TEST_F(ResolveCallMaskTest, UnresolvedPoliciesAreNamed) {
  const auto file = ParseTenants(
      "tenants:\n- {name: a, require: [always]}\n- {name: b, require: [always@2, gone]}\n");
  ASSERT_TRUE(file.ok()) << Message(file.status());
  const auto set = TenantSet::Make(*file, {});
  ASSERT_TRUE(set.ok());
  const auto unresolved = FindUnresolved(**set, *snapshot_);
  ASSERT_EQ(unresolved.size(), 2u);
  EXPECT_EQ(unresolved[0].tenant, "b");
  EXPECT_EQ(unresolved[0].reference, "always@2");
  EXPECT_EQ(Describe(unresolved),
            "tenant b requires always@2: policy always@2 is not known; tenant b requires gone: "
            "policy gone is not known");
  EXPECT_EQ(Describe({}), "");
}

}  // namespace
}  // namespace monet::server
