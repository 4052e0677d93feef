// API keys: made, hashed, found, rotated, expired, appended to the file.
#include "runtime/tenant/key_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "runtime/tenant/key_file_writer.h"

namespace monet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const UtcTime kNow = *ParseUtcTime("2026-06-01T12:00:00Z");

KeyEntry Entry(const std::string& tenant, const std::string& key) {
  return {.tenant = tenant, .hash = HashKey(key)};
}

std::string ErrorOf(const std::string& yaml) {
  const auto keys = ParseKeys(yaml);
  return keys.ok() ? "no error" : Message(keys.status());
}

std::string Hex(char digit) { return std::string(64, digit); }

TEST(Keys, AreRandomAndUrlSafe) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const auto key = NewKey();
    ASSERT_TRUE(key.ok());
    EXPECT_EQ(key->size(), 6u + 43u);
    EXPECT_TRUE(key->starts_with("monet_"));
    for (char c : *key) {
      EXPECT_TRUE(std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_') << *key;
    }
    EXPECT_TRUE(seen.insert(*key).second);
  }
}

TEST(Keys, HashIsSha256OfTheText) {
  EXPECT_EQ(HashKey("abc").ToString(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Keys, EachIsFoundAndNothingElse) {
  const std::vector<KeyEntry> keys = {Entry("a", "one"), Entry("b", "two"), Entry("a", "three")};
  EXPECT_EQ(FindKey(keys, "one", kNow), 0u);
  EXPECT_EQ(FindKey(keys, "two", kNow), 1u);
  EXPECT_EQ(FindKey(keys, "three", kNow), 2u);
  for (const char* wrong : {"", "on", "one ", "One", "four"}) {
    EXPECT_EQ(FindKey(keys, wrong, kNow), std::nullopt) << wrong;
  }
  EXPECT_EQ(FindKey({}, "one", kNow), std::nullopt);
}

TEST(Keys, EndAtTheirMoment) {
  KeyEntry entry = Entry("a", "one");
  entry.not_after = kNow;
  EXPECT_EQ(FindKey({entry}, "one", kNow - std::chrono::seconds(1)), 0u);
  EXPECT_EQ(FindKey({entry}, "one", kNow), std::nullopt);
}

TEST(UtcTimes, AreReadStrictly) {
  EXPECT_EQ(FormatUtcTime(*ParseUtcTime("2027-01-31")), "2027-01-31T00:00:00Z");
  EXPECT_EQ(FormatUtcTime(*ParseUtcTime("2024-02-29T23:59:59Z")), "2024-02-29T23:59:59Z");
  EXPECT_EQ(ParseUtcTime("1970-01-02")->time_since_epoch(), std::chrono::hours(24));
  for (const char* wrong :
       {"", "2027-02-29", "2027-13-01", "2027-1-1", "2027-01-01T00:00:00", "2027-01-01T24:00:00Z",
        "2027-01-01T00:60:00Z", "2027-01-01 00:00:00Z", "2027-01-01T00:00:00+01:00", "tomorrow"}) {
    EXPECT_EQ(ParseUtcTime(wrong), std::nullopt) << wrong;
  }
}

TEST(KeyFile, HoldsEverything) {
  const auto keys = ParseKeys("keys:\n- tenant: acme\n  sha256: " + Hex('1') +
                              "\n- tenant: acme\n  sha256: " + Hex('a') +
                              "\n  id: laptop\n  not_after: 2027-01-31\n");
  ASSERT_TRUE(keys.ok()) << Message(keys.status());
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ((*keys)[0].tenant, "acme");
  EXPECT_EQ((*keys)[0].hash.ToString(), "sha256:" + Hex('1'));
  EXPECT_EQ((*keys)[0].line, 2);
  EXPECT_EQ((*keys)[1].id, "laptop");
  EXPECT_EQ(FormatUtcTime(*(*keys)[1].not_after), "2027-01-31T00:00:00Z");
}

TEST(KeyFile, RefusesWhatItDoesNotKnow) {
  const std::string start = "keys:\n- tenant: acme\n  sha256: " + Hex('1') + "\n";
  EXPECT_THAT(ErrorOf(start + "  notafter: 2027-01-31\n"),
              AllOf(HasSubstr("keys[0].notafter (line 4)"), HasSubstr("unknown key")));
  EXPECT_THAT(ErrorOf(start + "  tenant: beta\n"), HasSubstr("duplicate key"));
  EXPECT_THAT(ErrorOf(start + "  not_after: 2027-31-01\n"), HasSubstr("2027-01-31"));
  EXPECT_THAT(ErrorOf(start + "  id: 'a b'\n"), HasSubstr("visible"));
  EXPECT_THAT(ErrorOf(start + "- tenant: beta\n  sha256: " + Hex('1') + "\n"),
              AllOf(HasSubstr("keys[1].sha256 (line 5)"), HasSubstr("first in line 2")));
  EXPECT_THAT(ErrorOf("keys:\n- tenant: acme\n  sha256: " + Hex('A') + "\n"),
              HasSubstr("lower-case"));
  EXPECT_THAT(ErrorOf("keys:\n- tenant: acme\n"), HasSubstr("keys[0].sha256"));
  EXPECT_THAT(ErrorOf("keys:\n- sha256: " + Hex('1') + "\n"), HasSubstr("keys[0].tenant"));
  EXPECT_THAT(ErrorOf("key: []\n"), HasSubstr("unknown key"));
}

class AppendKey : public ::testing::Test {
 protected:
  AppendKey() {
    folder_ = std::filesystem::path(::testing::TempDir()) / fmt::format("monet-keys-{}", getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "keys.yaml";
  }
  ~AppendKey() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& text) { std::ofstream(path_) << text; }
  std::string Read() {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
};

TEST_F(AppendKey, MakesTheFileForItsOwnerOnly) {
  ASSERT_TRUE(AppendKeyEntry(path_, Entry("acme", "one")).ok());
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const auto keys = ParseKeys(Read());
  ASSERT_TRUE(keys.ok()) << Message(keys.status());
  EXPECT_EQ(FindKey(*keys, "one", kNow), 0u);
}

TEST_F(AppendKey, KeepsWhatIsThere) {
  const std::string before =
      "# ours\nkeys:\n  - tenant: acme  # the first\n    sha256: " + Hex('1');
  Write(before);
  ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  KeyEntry entry = Entry("123", "two");  // a name that YAML would take for a number
  entry.id = "b";
  entry.not_after = kNow;
  const absl::Status status = AppendKeyEntry(path_, entry);
  ASSERT_TRUE(status.ok()) << Message(status);
  EXPECT_TRUE(Read().starts_with(before));
  const auto keys = ParseKeys(Read());
  ASSERT_TRUE(keys.ok()) << Message(keys.status());
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ((*keys)[1].tenant, "123");
  EXPECT_EQ((*keys)[1].not_after, kNow);
  struct stat info {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST_F(AppendKey, FillsAnEmptyList) {
  Write("keys: []\n");
  EXPECT_TRUE(AppendKeyEntry(path_, Entry("acme", "one")).ok());
  EXPECT_TRUE(ParseKeys(Read()).ok());
}

TEST_F(AppendKey, LeavesWhatItCannotAppendTo) {
  const std::string flow = "keys: [{tenant: acme, sha256: " + Hex('1') + "}]\n";
  for (const std::string& text : {flow, std::string("keys: 3\n"), std::string("other: []\n")}) {
    Write(text);
    EXPECT_FALSE(AppendKeyEntry(path_, Entry("acme", "one")).ok()) << text;
    EXPECT_EQ(Read(), text);
  }
  Write("keys: []\n");
  std::ofstream(path_.string() + ".new") << "another writer's";
  EXPECT_THAT(Message(AppendKeyEntry(path_, Entry("acme", "one"))), HasSubstr("another writer"));
  EXPECT_EQ(Read(), "keys: []\n");
}

TEST_F(AppendKey, FollowsALinkToTheFile) {
  const auto link = folder_ / "link.yaml";
  std::filesystem::create_symlink("keys.yaml", link);
  EXPECT_THAT(Message(AppendKeyEntry(link, Entry("acme", "one"))), HasSubstr("leads to no file"));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_FALSE(std::filesystem::exists(path_));
  Write("keys: []\n");
  EXPECT_TRUE(AppendKeyEntry(link, Entry("acme", "one")).ok());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  const auto keys = ParseKeys(Read());
  ASSERT_TRUE(keys.ok()) << Message(keys.status());
  EXPECT_EQ(keys->size(), 1u);
}

}  // namespace
}  // namespace monet
