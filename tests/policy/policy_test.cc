#include "runtime/policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/policy/policy_writer.h"

namespace monet {
namespace {

using testing::Compress;
using ::testing::HasSubstr;
using testing::HexSha256;
using testing::PolicyText;
using ::testing::StartsWith;

std::string Refusal(std::string_view yaml, std::string_view mask_file = "") {
  const auto policy = ParsePolicy(yaml, mask_file);
  if (policy.ok()) return "accepted";
  EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
  return Message(policy.status());
}

// The text with one line replaced: Replaced("version", "version: 2").
std::string Replaced(std::string_view key, std::string_view line) {
  std::string text = PolicyText().Text();
  const size_t begin = key == "format" ? 0 : text.find("\n" + std::string(key) + ":") + 1;
  const size_t end = text.find('\n', begin) + 1;
  std::string replacement(line);
  if (!replacement.empty()) replacement += '\n';
  return text.replace(begin, end - begin, replacement);
}

const std::vector<uint8_t> kBitmap = {0x02, 0x00, 0x80, 0x01};

std::string WithFile(std::string_view file, std::string_view sha256) {
  PolicyText text;
  text.experts = "{file: " + std::string(file) + ", sha256: " + std::string(sha256) + "}";
  return text.Text();
}

TEST(PolicyTest, ParsesAMaskFile) {
  const auto policy = ParsePolicy(WithFile("1.mask", HexSha256(kBitmap)), Compress(kBitmap));
  ASSERT_TRUE(policy.ok()) << Message(policy.status());
  EXPECT_EQ(policy->name, "no-test");
  EXPECT_EQ(policy->version, 1);
  EXPECT_EQ(policy->description, "");
  EXPECT_EQ(policy->semantics, "zero");
  EXPECT_EQ(policy->model, testing::ModelDigest(1));
  EXPECT_EQ(policy->mask->shape(), (MaskShape{2, 3}));
  EXPECT_EQ(policy->mask->removed(), 3);
  // sha256 of the documented bytes, by another implementation.
  EXPECT_EQ(policy->digest.ToString(),
            "sha256:b89cb52f59b39861262f6494cf374157e945914bd7a854d5e9b311624293d6a8");
}

TEST(PolicyTest, InlineAndFileOfTheSameExpertsHaveOneDigest) {
  PolicyText text;
  text.experts = "{inline: [{router: 1, ids: [8, 7, 7]}, {router: 0, ids: [1]}]}";
  const auto inlined = ParsePolicy(text.Text(), "");
  ASSERT_TRUE(inlined.ok()) << Message(inlined.status());
  const auto file = ParsePolicy(WithFile("1.mask", HexSha256(kBitmap)), Compress(kBitmap));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(inlined->digest, file->digest);
  EXPECT_EQ(inlined->mask->digest(), file->mask->digest());
}

TEST(PolicyTest, ParsesInlineRowsAndColumns) {
  PolicyText text;
  text.experts = "{inline: [{router: 0, rows: [0], columns: [2]}, {router: 1}]}";
  const auto policy = ParsePolicy(text.Text(), "");
  ASSERT_TRUE(policy.ok()) << Message(policy.status());
  EXPECT_EQ(policy->mask->removed(), 5);
  text.experts = "{inline: []}";
  EXPECT_TRUE(ParsePolicy(text.Text(), "")->mask->empty());
}

TEST(PolicyTest, TheDigestIgnoresTheTextOnly) {
  const Digest digest = ParsePolicy(PolicyText().Text(), "")->digest;
  const auto same = ParsePolicy("# a comment\n" + PolicyText().Text() +
                                    "description: 'Other words'\nbuilt: {rule: ratio, n: [1, ~]}\n",
                                "");
  ASSERT_TRUE(same.ok()) << Message(same.status());
  EXPECT_EQ(same->digest, digest);
  EXPECT_EQ(same->description, "Other words");
  PolicyText other;
  other.model = testing::ModelDigest(2).ToString();
  EXPECT_NE(ParsePolicy(other.Text(), "")->digest, digest);
  other = {};
  other.shape = {2, 4};
  EXPECT_NE(ParsePolicy(other.Text(), "")->digest, digest);
  other = {};
  other.experts = "{inline: [{router: 0, ids: [5]}]}";
  EXPECT_NE(ParsePolicy(other.Text(), "")->digest, digest);
}

TEST(PolicyTest, EveryKeyIsNeededOnceAndNoOther) {
  for (const char* key : {"format", "name", "version", "model", "semantics", "routers",
                          "experts_per_side", "experts"}) {
    EXPECT_THAT(Refusal(Replaced(key, "")), HasSubstr(std::string(key) + " (line 1): is missing"));
    const std::string text = PolicyText().Text();
    EXPECT_THAT(Refusal(text + key + ": 1\n"),
                HasSubstr(std::string("line 9: duplicate key ") + key));
    EXPECT_THAT(Refusal(text + key + "s: 1\n"), HasSubstr(std::string(key) + "s (line 9)"));
  }
}

TEST(PolicyTest, NumbersAreStrict) {
  for (const char* key : {"format", "version", "routers", "experts_per_side"}) {
    for (const char* value : {"1.0",
                              "0x1",
                              "0o1",
                              "01",
                              "+1",
                              "1e0",
                              "-1",
                              "0",
                              "'1'",
                              "\"1\"",
                              "1_0",
                              "true",
                              "~",
                              "",
                              "[1]",
                              "{a: 1}",
                              "99999999999999999999",
                              "-99999999999999999999",
                              "one",
                              ".1",
                              "-0"}) {
      const std::string line = std::string(key) + ": " + value;
      EXPECT_THAT(Refusal(Replaced(key, line)),
                  ::testing::AllOf(StartsWith(std::string(key) + " (line "),
                                   HasSubstr("must be an integer from 1 to ")))
          << line;
    }
  }
  EXPECT_THAT(Refusal(Replaced("format", "format: 2")), HasSubstr("format (line 1)"));
  EXPECT_EQ(Refusal(Replaced("version", "version: 2147483647")), "accepted");
  EXPECT_THAT(Refusal(Replaced("version", "version: 2147483648")), HasSubstr("1 to 2147483647"));
}

TEST(PolicyTest, ShapesAreBoundedBeforeAnythingIsAllocated) {
  EXPECT_THAT(Refusal(Replaced("routers", "routers: 1025")), HasSubstr("1 to 1024"));
  EXPECT_THAT(Refusal(Replaced("experts_per_side", "experts_per_side: 4097")),
              HasSubstr("1 to 4096"));
  PolicyText text;
  text.shape = {1024, 4096};
  EXPECT_THAT(Refusal(text.Text()), HasSubstr("limit 67108864"));
}

TEST(PolicyTest, NamesAreNames) {
  for (const char* name : {"a", "0-a", "no-insults", "a--b"}) EXPECT_TRUE(IsPolicyName(name));
  EXPECT_TRUE(IsPolicyName(std::string(63, 'a')));
  for (const char* name :
       {"", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "\xC3\xA9", "a@1"}) {
    EXPECT_FALSE(IsPolicyName(name)) << name;
    EXPECT_THAT(Refusal(Replaced("name", "name: \"" + std::string(name) + "\"")),
                StartsWith("name (line 2)"));
  }
  EXPECT_FALSE(IsPolicyName(std::string(64, 'a')));
  for (const char* plain : {"1", "true", "~", "null", "[a]", "{a: b}", "", "1e5"}) {
    EXPECT_THAT(Refusal(Replaced("name", std::string("name: ") + plain)),
                HasSubstr("must be a string"));
  }
  EXPECT_EQ(Refusal(Replaced("name", "name: '1'")), "accepted");
}

TEST(PolicyTest, RefusesOtherSemantics) {
  EXPECT_THAT(Refusal(Replaced("semantics", "semantics: mean")), HasSubstr("not implemented"));
  EXPECT_THAT(Refusal(Replaced("semantics", "semantics: renormalise")),
              HasSubstr("not implemented"));
  EXPECT_THAT(Refusal(Replaced("semantics", "semantics: Zero")), HasSubstr("must be zero"));
  EXPECT_THAT(Refusal(Replaced("semantics", "semantics:")), HasSubstr("must be a string"));
}

TEST(PolicyTest, RefusesMalformedDigests) {
  for (const char* value : {"sha256:12", "md5:00", "", "[]"}) {
    EXPECT_THAT(Refusal(Replaced("model", std::string("model: ") + value)),
                StartsWith("model (line 4)"));
  }
  std::string upper = PolicyText().model;
  upper.back() = 'A';
  EXPECT_THAT(Refusal(Replaced("model", "model: " + upper)), HasSubstr("lower-case"));
  const std::string mask = Compress(kBitmap);
  EXPECT_THAT(Refusal(WithFile("1.mask", "sha256:" + HexSha256(kBitmap)), mask),
              HasSubstr("experts.sha256 (line 8): must be 64"));
  EXPECT_THAT(Refusal(WithFile("1.mask", std::string(64, '0')), mask),
              HasSubstr("experts.sha256 (line 8): is not the digest"));
}

TEST(PolicyTest, DescriptionsAreOneBoundedLine) {
  const std::string text = PolicyText().Text();
  EXPECT_EQ(Refusal(text + "description: " + std::string(1024, 'd') + "\n"), "accepted");
  EXPECT_THAT(Refusal(text + "description: " + std::string(1025, 'd') + "\n"),
              HasSubstr("1025 bytes, limit 1024"));
  for (const char* value : {"\"a\\nb\"", "\"\\0\"", "\"\\e[1m\"", "|\n  two\n  lines\n"}) {
    EXPECT_THAT(Refusal(text + "description: " + value + "\n"), HasSubstr("one line"));
  }
}

TEST(PolicyTest, ChecksTheMaskFile) {
  const std::string yaml = WithFile("1.mask", HexSha256(kBitmap));
  const std::string place = "experts.file (line 8): ";
  EXPECT_THAT(Refusal(yaml, ""), StartsWith(place + "the mask file is cut short"));
  EXPECT_THAT(Refusal(yaml, Compress(std::string(5, '\0'))), StartsWith(place));
  EXPECT_THAT(Refusal(yaml, Compress(std::string(3, '\0'))), StartsWith(place));
  EXPECT_THAT(Refusal(yaml, Compress(kBitmap) + "x"), StartsWith(place));
  const std::vector<uint8_t> padded = {0x02, 0x02, 0x80, 0x01};
  EXPECT_THAT(Refusal(WithFile("1.mask", HexSha256(padded)), Compress(padded)),
              StartsWith(place + "the bitmap of router 0 has a padding bit"));
}

TEST(PolicyTest, MaskFileNamesArePlain) {
  const std::string mask = Compress(kBitmap);
  for (const char* name : {"..", ".", ".hidden", "a/b", "/etc/passwd", "../1.mask", "'a\\b'", "''",
                           "\"a\\0b\"", "\xC3\xA9", "'a b'"}) {
    const std::string yaml = WithFile(name, HexSha256(kBitmap));
    EXPECT_THAT(Refusal(yaml, mask), HasSubstr("experts.file (line 8): must be a")) << name;
    EXPECT_FALSE(PolicyMaskFileName(yaml).ok()) << name;
  }
  const auto name = PolicyMaskFileName(WithFile("No_1.v2.mask", HexSha256(kBitmap)));
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(*name, "No_1.v2.mask");
  EXPECT_EQ(*PolicyMaskFileName(PolicyText().Text()), "");
}

TEST(PolicyTest, ExpertsAreAFileOrInline) {
  const auto with = [](std::string_view experts) {
    PolicyText text;
    text.experts = experts;
    return Refusal(text.Text());
  };
  EXPECT_THAT(with("{}"), HasSubstr("experts.inline (line 8): is missing"));
  EXPECT_THAT(with("[]"), HasSubstr("experts (line 8): must be a map"));
  EXPECT_THAT(with("{file: 1.mask}"), HasSubstr("experts.sha256 (line 8): is missing"));
  EXPECT_THAT(with("{inline: [], file: 1.mask, sha256: a}"), HasSubstr("unknown key"));
  EXPECT_THAT(with("{inline: [], sha256: a}"), HasSubstr("experts.sha256 (line 8): unknown key"));
  EXPECT_THAT(with("{inline: [{ids: [1]}]}"), HasSubstr("experts.inline[0].router"));
  EXPECT_THAT(with("{inline: [{router: 2}]}"), HasSubstr("integer from 0 to 1"));
  EXPECT_THAT(with("{inline: [{router: 0}, {router: 0}]}"), HasSubstr("occurs twice"));
  EXPECT_THAT(with("{inline: [{router: 0}, {router: 1}, {router: 0}]}"), HasSubstr("limit 2"));
  EXPECT_THAT(with("{inline: [{router: 0, ids: 4}]}"), HasSubstr("ids (line 8): must be a list"));
  EXPECT_THAT(with("{inline: [{router: 0, ids: [0, 9]}]}"),
              HasSubstr("experts.inline[0].ids[1] (line 8): must be an integer from 0 to 8"));
  EXPECT_THAT(with("{inline: [{router: 0, rows: [3]}]}"), HasSubstr("rows[0]"));
  EXPECT_THAT(with("{inline: [{router: 0, columns: [-1]}]}"), HasSubstr("columns[0]"));
  EXPECT_THAT(with("{inline: [{router: 0, cols: [1]}]}"), HasSubstr("cols (line 8): unknown key"));
  EXPECT_THAT(Refusal(PolicyText().Text(), "bytes"), HasSubstr("names no file"));
}

TEST(PolicyTest, BuiltIsFreeButStrictYaml) {
  const std::string text = PolicyText().Text();
  EXPECT_EQ(Refusal(text + "built: {rule: ratio, nested: {a: [1, 2.5, x]}}\n"), "accepted");
  EXPECT_THAT(Refusal(text + "built: ratio\n"), HasSubstr("built (line 9): must be a map"));
  EXPECT_THAT(Refusal(text + "built: {a: {b: 1, b: 2}}\n"), HasSubstr("line 9: duplicate key b"));
}

TEST(PolicyTest, ReadsFilesUnderTheirOwnNames) {
  testing::TemporaryFolder folder;
  PolicyText text;
  folder.WritePolicy(text, kBitmap);
  const auto file = ReadPolicyFile(folder.path() / "no-test/1.yaml");
  ASSERT_TRUE(file.ok()) << Message(file.status());
  EXPECT_EQ(file->policy.mask->removed(), 3);
  EXPECT_EQ(file->mask_name, "1.mask");
  EXPECT_EQ(file->mask, Compress(kBitmap));
  EXPECT_THAT(file->yaml, HasSubstr("name: no-test\n"));

  const auto refusal = [&](const std::string& file) {
    return Message(ReadPolicyFile(folder.path() / file).status());
  };
  folder.Write("other/1.yaml", text.Text());
  EXPECT_EQ(refusal("other/1.yaml"), "other/1.yaml: name is no-test, not the folder's name");
  folder.Write("no-test/2.yaml", text.Text());
  EXPECT_EQ(refusal("no-test/2.yaml"), "no-test/2.yaml: version is 1, not the file's name");
  EXPECT_EQ(refusal("no-test/3.yaml"), "no-test/3.yaml: no such file");
  folder.Write("no-test/4.yaml", WithFile("4.mask", HexSha256(kBitmap)));
  EXPECT_EQ(refusal("no-test/4.yaml"), "no-test/4.yaml: 4.mask: no such file");
  folder.Write("no-test/5.yaml", std::string((1 << 20) + 1, '#'));
  EXPECT_THAT(refusal("no-test/5.yaml"), HasSubstr("limit 1048576"));
}

}  // namespace
}  // namespace monet
