// Mandatory policies hold on every call, and a tenant names only what it may.
#include "server/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

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
    const auto snapshot = PolicySnapshot::Load(root_, Digest(), kShape);
    EXPECT_TRUE(snapshot.ok()) << Message(snapshot.status());
    if (snapshot.ok()) snapshot_ = *snapshot;
  }
  void WritePolicy(const std::string& name, const std::string& experts) {
    std::filesystem::create_directories(root_ / name);
    std::ofstream(root_ / name / "1.yaml")
        << "format: 1\nname: " << name << "\nversion: 1\nmodel: " << Digest().ToString()
        << "\nsemantics: zero\nrouters: 2\nexperts_per_side: 4\nexperts: {inline: [" << experts
        << "]}\n";
  }

  std::filesystem::path root_;
  std::shared_ptr<const PolicySnapshot> snapshot_;
  Identity identity_;
};

TEST_F(ResolveCallMaskTest, AnonymousMayDoEverything) {
  const auto mask =
      ResolveCallMask(*snapshot_, identity_, {{"other"}, {{.router = 0, .ids = {5}}}});
  ASSERT_TRUE(mask.ok()) << Message(mask.status());
  EXPECT_EQ(mask->mask->removed(), 5);
  const auto none = ResolveCallMask(*snapshot_, identity_, {});
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->mask->empty());
}

TEST_F(ResolveCallMaskTest, MandatoryPoliciesHoldWhateverTheRequestSays) {
  identity_.mandatory_policies = {"always@1"};
  auto mask = ResolveCallMask(*snapshot_, identity_, {});
  ASSERT_TRUE(mask.ok());
  EXPECT_EQ(mask->mask->removed(), 4);
  ASSERT_EQ(mask->policies.size(), 1u);
  EXPECT_EQ(mask->policies[0]->name, "always");
  EXPECT_TRUE(IsMandatory(*snapshot_, identity_, *mask->policies[0]));
  mask = ResolveCallMask(*snapshot_, identity_, {{"other"}, {}});
  ASSERT_TRUE(mask.ok());
  EXPECT_EQ(mask->mask->removed(), 8);
  EXPECT_EQ(mask->policies.size(), 2u);
}

TEST_F(ResolveCallMaskTest, MissingMandatoryPolicyRefusesTheCall) {
  identity_.mandatory_policies = {"gone"};
  const auto mask = ResolveCallMask(*snapshot_, identity_, {{"other"}, {}});
  EXPECT_EQ(mask.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(mask.status()), ::testing::Not(HasSubstr("gone")));
}

TEST_F(ResolveCallMaskTest, TenantsNameOnlyWhatTheyMay) {
  identity_.all_policies_allowed = false;
  identity_.explicit_experts_allowed = false;
  EXPECT_EQ(ResolveCallMask(*snapshot_, identity_, {{"other"}, {}}).status().code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(
      ResolveCallMask(*snapshot_, identity_, {{}, {{.router = 0, .ids = {1}}}}).status().code(),
      absl::StatusCode::kPermissionDenied);
  identity_.allowed_policies = {"other"};
  EXPECT_TRUE(ResolveCallMask(*snapshot_, identity_, {{"other"}, {}}).ok());
  EXPECT_FALSE(ResolveCallMask(*snapshot_, identity_, {{"always"}, {}}).ok());
  identity_.mandatory_policies = {"always"};  // what holds anyway may also be named
  EXPECT_TRUE(ResolveCallMask(*snapshot_, identity_, {{"always"}, {}}).ok());
}

TEST_F(ResolveCallMaskTest, UnknownPolicyIsNotFound) {
  EXPECT_EQ(ResolveCallMask(*snapshot_, identity_, {{"nobody"}, {}}).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace monet::server
