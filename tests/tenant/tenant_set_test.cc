// Whose a call is: every way in, every wrong credential, and one answer for all of those.
#include "runtime/tenant/tenant_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/base/reasons.h"

namespace monet {
namespace {

using ::testing::HasSubstr;

const UtcTime kNow = *ParseUtcTime("2026-06-01");

std::string HashText(const std::string& key) { return HashKey(key).ToString().substr(7); }

std::shared_ptr<const TenantSet> MakeSet(const std::string& tenants, const std::string& keys) {
  const auto file = ParseTenants(tenants);
  const auto entries = ParseKeys(keys);
  EXPECT_TRUE(file.ok()) << Message(file.status());
  EXPECT_TRUE(entries.ok()) << Message(entries.status());
  const auto set = TenantSet::Make(*file, *entries);
  EXPECT_TRUE(set.ok()) << Message(set.status());
  return *set;
}

class Identify : public ::testing::Test {
 protected:
  std::shared_ptr<const TenantSet> set_ = MakeSet(
      "gateway: {subjects: [CN=envoy]}\ntenants:\n"
      "- {name: acme, subjects: [CN=acme]}\n- {name: beta, subjects: [CN=beta]}\n",
      "keys:\n- {tenant: acme, sha256: " + HashText("a1") + "}\n- {tenant: acme, sha256: " +
          HashText("a2") + "}\n- {tenant: beta, sha256: " + HashText("b1") +
          "}\n- {tenant: beta, sha256: " + HashText("old") + ", not_after: 2026-05-31}\n");

  // The tenant's name, or "refused".
  std::string NameOf(const Credentials& credentials) {
    const auto tenant = set_->Identify(credentials, kNow);
    if (tenant.ok()) return (*tenant)->name;
    EXPECT_EQ(ReasonOf(tenant.status()).reason, Reason::kUnauthenticated);
    // One text, so that nobody learns what exists.
    EXPECT_EQ(Message(tenant.status()),
              "the call carries no valid credentials of a tenant of this server");
    return "refused";
  }
  std::string OfKey(const std::string& key) { return NameOf({.authorization = {"Bearer " + key}}); }
};

TEST_F(Identify, ByKey) {
  EXPECT_EQ(OfKey("a1"), "acme");
  EXPECT_EQ(OfKey("a2"), "acme");
  EXPECT_EQ(OfKey("b1"), "beta");
  EXPECT_EQ(NameOf({.authorization = {"bearer b1"}}), "beta");
}

TEST_F(Identify, WrongKeysAreRefused) {
  for (const char* key : {"", "a", "a1 ", " a1", "A1", "old", "acme", "a1,b1"}) {
    EXPECT_EQ(OfKey(key), "refused") << key;
  }
  for (const char* value : {"", "a1", "Basic a1", "Bearer", "Bearer\ta1", "Bearera1"}) {
    EXPECT_EQ(NameOf({.authorization = {value}}), "refused") << value;
  }
  EXPECT_EQ(NameOf({.authorization = {"Bearer a1", "Bearer b1"}}), "refused");
  EXPECT_EQ(NameOf({.authorization = {"Bearer a1", "Bearer a1"}}), "refused");
}

TEST_F(Identify, ByCertificate) {
  EXPECT_EQ(NameOf({.subjects = {"CN=acme"}}), "acme");
  EXPECT_EQ(NameOf({.subjects = {"spiffe://mesh/x", "CN=beta"}}), "beta");
  EXPECT_EQ(NameOf({.subjects = {"acme"}}), "refused");
  EXPECT_EQ(NameOf({.subjects = {"CN=acme,O=x"}}), "refused");
  EXPECT_EQ(NameOf({.subjects = {"CN=acme", "CN=beta"}}), "refused");
}

TEST_F(Identify, KeyOfAnotherTenantDoesNotGoWithACertificate) {
  EXPECT_EQ(NameOf({.authorization = {"Bearer a1"}, .subjects = {"CN=acme"}}), "acme");
  EXPECT_EQ(NameOf({.authorization = {"Bearer b1"}, .subjects = {"CN=acme"}}), "refused");
  EXPECT_EQ(NameOf({.authorization = {"Bearer no"}, .subjects = {"CN=acme"}}), "refused");
  EXPECT_EQ(NameOf({.authorization = {"Bearer b1"}, .subjects = {"CN=mesh"}}), "beta");
}

TEST_F(Identify, GatewayHeaderOnlyFromTheGateway) {
  const auto header = [&](std::vector<std::string> values, std::vector<std::string> subjects,
                          std::vector<std::string> authorization = {}) {
    return NameOf({std::move(authorization), std::move(values), std::move(subjects)});
  };
  EXPECT_EQ(header({"acme"}, {"CN=envoy"}), "acme");
  EXPECT_EQ(header({"beta"}, {"CN=envoy"}, {"Bearer whatever the client sent"}), "beta");
  EXPECT_EQ(header({"nobody"}, {"CN=envoy"}), "refused");
  EXPECT_EQ(header({""}, {"CN=envoy"}), "refused");
  EXPECT_EQ(header({"acme", "beta"}, {"CN=envoy"}), "refused");
  // Refused, not ignored: not even with the tenant's own credentials.
  EXPECT_EQ(header({"acme"}, {}), "refused");
  EXPECT_EQ(header({"acme"}, {"CN=acme"}), "refused");
  EXPECT_EQ(header({"acme"}, {}, {"Bearer a1"}), "refused");
  EXPECT_EQ(NameOf({.subjects = {"CN=envoy"}}), "refused");
}

TEST_F(Identify, NoCredentialsAreAnonymousOnlyWhereConfigured) {
  EXPECT_EQ(NameOf({}), "refused");
  set_ = MakeSet("tenants:\n- name: acme\n- name: anonymous\n",
                 "keys:\n- {tenant: acme, sha256: " + HashText("a1") + "}\n");
  EXPECT_EQ(NameOf({}), "anonymous");
  EXPECT_EQ(OfKey("a1"), "acme");
  EXPECT_EQ(OfKey("wrong"), "refused");
  EXPECT_EQ(NameOf({.gateway_tenant = {"anonymous"}}), "refused");
}

TEST_F(Identify, AServerWithoutTenantsTakesNoCredentials) {
  set_ = TenantSet::Open();
  EXPECT_EQ(NameOf({}), "anonymous");
  EXPECT_TRUE(set_->tenants()[0]->allow_all);
  // Whoever gives a key takes himself for somebody: serving him without his mandatory policies
  // would be worse than an error.
  EXPECT_EQ(OfKey("a1"), "refused");
  EXPECT_EQ(NameOf({.gateway_tenant = {"acme"}}), "refused");
}

TEST(TenantSet, KeysAreOfTenantsThatAreThere) {
  const auto file = ParseTenants("tenants:\n- name: acme\n- name: anonymous\n");
  ASSERT_TRUE(file.ok());
  const auto error = [&](const std::string& tenant) {
    return Message(
        TenantSet::Make(*file, {{.tenant = tenant, .hash = HashKey("x"), .line = 7}}).status());
  };
  EXPECT_THAT(error("gone"), HasSubstr("line 7: there is no tenant gone"));
  EXPECT_THAT(error("anonymous"), HasSubstr("line 7"));
  EXPECT_EQ(error("acme"), "");
}

}  // namespace
}  // namespace monet
