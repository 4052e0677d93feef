// Both files are taken as a whole, or not at all.
#include "runtime/tenant/tenant_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>

namespace monet {
namespace {

using ::testing::HasSubstr;

const UtcTime kNow = *ParseUtcTime("2026-06-01");

class TenantRegistryTest : public ::testing::Test {
 protected:
  TenantRegistryTest() {
    folder_ =
        std::filesystem::path(::testing::TempDir()) / fmt::format("monet-tenants-{}", getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    paths_ = {folder_ / "tenants.yaml", folder_ / "keys.yaml"};
    WriteTenants("tenants:\n- name: acme\n");
    WriteKey("one");
  }
  ~TenantRegistryTest() override { std::filesystem::remove_all(folder_); }

  void WriteTenants(const std::string& text) { std::ofstream(paths_.tenants) << text; }
  void WriteKey(const std::string& key, const std::string& tenant = "acme") {
    std::ofstream(paths_.keys) << "keys:\n- {tenant: " << tenant
                               << ", sha256: " << HashKey(key).ToString().substr(7) << "}\n";
  }
  std::unique_ptr<TenantRegistry> Load() {
    auto registry = TenantRegistry::Load(paths_);
    EXPECT_TRUE(registry.ok()) << Message(registry.status());
    return registry.ok() ? *std::move(registry) : nullptr;
  }
  std::string LoadError() {
    const auto registry = TenantRegistry::Load(paths_);
    return registry.ok() ? "no error" : Message(registry.status());
  }
  static bool Opens(const TenantRegistry& registry, const std::string& key) {
    return registry.Current()->Identify({.authorization = {"Bearer " + key}}, kNow).ok();
  }

  std::filesystem::path folder_;
  TenantPaths paths_;
};

TEST_F(TenantRegistryTest, ErrorsNameFileLineAndKeyButNotTheFolder) {
  WriteTenants("tenants:\n- name: acme\n  limit: {}\n");
  EXPECT_THAT(LoadError(), HasSubstr("tenants.yaml: tenants[0].limit (line 3): unknown key"));
  EXPECT_THAT(LoadError(), ::testing::Not(HasSubstr(folder_.string())));
  WriteTenants("tenants:\n- name: acme\n");
  WriteKey("one", "gone");
  EXPECT_THAT(LoadError(), HasSubstr("keys.yaml: line 2: there is no tenant gone"));
  std::filesystem::remove(paths_.keys);
  EXPECT_THAT(LoadError(), HasSubstr("keys.yaml: no such file"));
}

TEST_F(TenantRegistryTest, WithoutTenantsTheServerIsOpen) {
  const auto registry = TenantRegistry::Load({});
  ASSERT_TRUE(registry.ok());
  EXPECT_TRUE((*registry)->Current()->open());
}

TEST_F(TenantRegistryTest, SomebodyMustBeAbleToCall) {
  paths_.keys.clear();
  EXPECT_THAT(LoadError(), HasSubstr("nobody could be served"));
  WriteTenants("tenants:\n- name: acme\n  subjects: [CN=acme]\n");
  EXPECT_THAT(LoadError(), HasSubstr("nobody could be served"));
  paths_.client_certificates = true;
  EXPECT_EQ(LoadError(), "no error");
  paths_.client_certificates = false;
  WriteTenants("tenants:\n- name: anonymous\n");
  EXPECT_EQ(LoadError(), "no error");
}

TEST_F(TenantRegistryTest, KeysRotate) {
  const auto registry = Load();
  ASSERT_NE(registry, nullptr);
  std::ofstream(paths_.keys, std::ios::app)
      << "- {tenant: acme, sha256: " << HashKey("two").ToString().substr(7) << "}\n";
  ASSERT_TRUE(registry->Reload().ok());
  EXPECT_TRUE(Opens(*registry, "one"));
  EXPECT_TRUE(Opens(*registry, "two"));
  WriteKey("two");
  ASSERT_TRUE(registry->Reload().ok());
  EXPECT_FALSE(Opens(*registry, "one"));
  EXPECT_TRUE(Opens(*registry, "two"));
}

TEST_F(TenantRegistryTest, ABadFileKeepsTheLastGoodSet) {
  const auto registry = Load();
  ASSERT_NE(registry, nullptr);
  const auto before = registry->Current();
  WriteTenants("tenants:\n- name: acme\n- name: acme\n");
  WriteKey("two");
  EXPECT_FALSE(registry->Reload().ok());
  EXPECT_EQ(registry->Current(), before);
  EXPECT_TRUE(Opens(*registry, "one"));
  EXPECT_FALSE(Opens(*registry, "two"));
  std::filesystem::remove(paths_.tenants);
  EXPECT_FALSE(registry->Reload().ok());
  EXPECT_TRUE(Opens(*registry, "one"));
  WriteTenants("tenants:\n- name: acme\n");
  EXPECT_TRUE(registry->Reload().ok());
  EXPECT_TRUE(Opens(*registry, "two"));
}

TEST_F(TenantRegistryTest, ReloadsOnceForEachContent) {
  const auto registry = Load();
  ASSERT_NE(registry, nullptr);
  EXPECT_EQ(registry->ReloadIfChanged(), std::nullopt);
  WriteTenants("tenants: oops\n");
  const auto bad = registry->ReloadIfChanged();
  ASSERT_TRUE(bad.has_value());
  EXPECT_FALSE(bad->ok());
  EXPECT_EQ(registry->ReloadIfChanged(), std::nullopt);  // told once
  EXPECT_FALSE(registry->Reload().ok());                 // told again when asked
  WriteTenants("tenants:\n- name: acme\n- name: beta\n");
  const auto good = registry->ReloadIfChanged();
  ASSERT_TRUE(good.has_value());
  EXPECT_TRUE(good->ok());
  EXPECT_EQ(registry->Current()->tenants().size(), 2u);
}

// A running call keeps the tenant that it was admitted with.
TEST_F(TenantRegistryTest, TenantsOutliveTheirSet) {
  const auto registry = Load();
  ASSERT_NE(registry, nullptr);
  const auto tenant = registry->Current()->Identify({.authorization = {"Bearer one"}}, kNow);
  ASSERT_TRUE(tenant.ok());
  WriteTenants("tenants:\n- name: acme\n  require: [x]\n");
  ASSERT_TRUE(registry->Reload().ok());
  EXPECT_TRUE((*tenant)->require.empty());
  EXPECT_EQ(registry->Current()->Find("acme")->require.size(), 1u);
}

// Callers see the old pair of files or the new one, never one file of each.
TEST_F(TenantRegistryTest, ReadersNeverSeeHalfAReload) {
  const auto registry = Load();
  ASSERT_NE(registry, nullptr);
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    while (!stop) {
      const auto set = registry->Current();
      const std::string name = set->tenants()[0]->name;
      ASSERT_EQ(set->keys().size(), 1u);
      ASSERT_EQ(set->keys()[0].tenant, name);
    }
  });
  for (int i = 0; i < 200; ++i) {
    const std::string name = i % 2 == 0 ? "beta" : "acme";
    WriteTenants("tenants:\n- name: " + name + "\n");
    (void)registry->ReloadIfChanged();  // refused: the key's tenant has gone
    WriteKey("one", name);
    ASSERT_TRUE(registry->Reload().ok());
  }
  stop = true;
  reader.join();
}

}  // namespace
}  // namespace monet
