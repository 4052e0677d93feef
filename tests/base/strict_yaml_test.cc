#include "runtime/base/strict_yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace monet {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr size_t kLimit = 1 << 20;

YamlNode Parse(std::string_view text) {
  auto root = ParseStrictYaml(text, kLimit);
  EXPECT_TRUE(root.ok()) << Message(root.status());
  return root.ok() ? *std::move(root) : YamlNode();
}

std::string Refusal(std::string_view text) {
  const auto root = ParseStrictYaml(text, kLimit);
  if (root.ok()) return "accepted";
  EXPECT_EQ(root.status().code(), absl::StatusCode::kInvalidArgument);
  return Message(root.status());
}

TEST(StrictYamlTest, ReadsWhatPeopleWrite) {
  const YamlNode root = Parse(
      "# tenants\n---\ntenants:\n- name: acme\n  require: [no-insults@1]  # always\n"
      "  limits: {concurrent: 32, burst: -5}\n  explicit: false\n- name: \"42\"\n  note: >\n"
      "    two\n    lines\n");
  const YamlView view(root);
  ASSERT_TRUE(view.CheckKeys({"tenants"}, {"defaults"}).ok());
  const auto tenants = view["tenants"].Sequence(10);
  ASSERT_TRUE(tenants.ok());
  ASSERT_EQ(tenants->size(), 2u);
  const YamlView acme = (*tenants)[0];
  EXPECT_EQ(*acme["name"].String(63), "acme");
  EXPECT_EQ(*(*acme["require"].Sequence(1))[0].String(63), "no-insults@1");
  EXPECT_EQ(*acme["limits"]["concurrent"].Integer(1, 32), 32);
  EXPECT_EQ(*acme["limits"]["burst"].Integer(-5, 0), -5);
  EXPECT_FALSE(*acme["explicit"].Bool());
  EXPECT_EQ(*(*tenants)[1]["name"].String(63), "42");
  EXPECT_EQ(*(*tenants)[1]["note"].String(63), "two lines\n");
  EXPECT_FALSE(view["defaults"].present());
}

TEST(StrictYamlTest, ErrorsNameThePathAndTheLine) {
  const YamlNode root = Parse("a: 1\nb:\n  c: [1,\n   two]\n  d:\nx: {}\n");
  const YamlView view(root);
  EXPECT_EQ(Message(view.CheckKeys({"a", "b"}, {})), "x (line 6): unknown key");
  EXPECT_EQ(Message(view["b"].CheckKeys({"c", "e"}, {"d"})), "b.e (line 2): is missing");
  const auto list = view["b"]["c"].Sequence(2);
  EXPECT_EQ(Message((*list)[1].Integer(0, 9).status()),
            "b.c[1] (line 4): must be an integer from 0 to 9");
  EXPECT_EQ(Message(view["b"]["c"].Sequence(1).status()), "b.c (line 3): has 2 entries, limit 1");
  EXPECT_EQ(Message(view["b"]["d"].String(9).status()), "b.d (line 5): must be a string");
  EXPECT_EQ(Message(view["no"]["such"].Bool().status()), "no.such (line 1): is missing");
  EXPECT_EQ(Message(view["a"].CheckMap()), "a (line 1): must be a map");
  EXPECT_EQ(Message(view["x"].Sequence(1).status()), "x (line 6): must be a list");
  EXPECT_EQ(Message(view["a"]["inside a number"].Bool().status()),
            "a.inside a number (line 1): is missing");
}

TEST(StrictYamlTest, RefusesDuplicateKeysAtAnyLevel) {
  EXPECT_EQ(Refusal("a: 1\nb: 2\na: 1\n"), "line 3: duplicate key a");
  EXPECT_EQ(Refusal("a: {b: 1, 'b': 2}\n"), "line 1: duplicate key b");
  EXPECT_EQ(Refusal("a:\n- b: 1\n  c: {d: 1, \"d\": {}}\n"), "line 3: duplicate key d");
  EXPECT_EQ(Refusal("a: {b: 1}\nc: {b: 1}\nb: [b, b]\n"), "accepted");
}

TEST(StrictYamlTest, RefusesAnchorsAliasesMergeKeysAndTags) {
  EXPECT_THAT(Refusal("a: &x 1\n"), HasSubstr("anchors"));
  EXPECT_THAT(Refusal("a: &x {b: 1}\n"), HasSubstr("anchors"));
  EXPECT_THAT(Refusal("a: &x\n"), HasSubstr("anchors"));
  EXPECT_THAT(Refusal("a: &x [1]\nb: *x\n"), HasSubstr("anchors"));
  EXPECT_THAT(Refusal("&x a: 1\n"), HasSubstr("anchors"));
  EXPECT_NE(Refusal("b: *x\n"), "accepted");
  EXPECT_THAT(Refusal("a:\n  <<: {b: 1}\n"), HasSubstr("merge keys"));
  EXPECT_THAT(Refusal("a: !!int 1\n"), HasSubstr("tags"));
  EXPECT_THAT(Refusal("a: !mine {b: 1}\n"), HasSubstr("tags"));
  EXPECT_THAT(Refusal("a: !!str\n"), HasSubstr("tags"));
  EXPECT_THAT(Refusal("!!str a: 1\n"), HasSubstr("tags"));
  EXPECT_THAT(Refusal("%YAML 1.2\n---\na: 1\n"), HasSubstr("directives"));
  EXPECT_THAT(Refusal("a: 1\n...\n%TAG ! tag:x\n---\nb: 1\n"), HasSubstr("directives"));
}

TEST(StrictYamlTest, RefusesOtherThanOneMap) {
  EXPECT_THAT(Refusal("a: 1\n---\nb: 1\n"), HasSubstr("second document"));
  EXPECT_THAT(Refusal("a: 1\n---\n"), HasSubstr("second document"));
  EXPECT_EQ(Refusal("---\na: 1\n...\n"), "accepted");
  for (const char* text : {"", "# nothing\n", "---\n", "[a]\n", "a\n", "~\n"}) {
    EXPECT_THAT(Refusal(text), StartsWith("line 1: ")) << text;
  }
}

TEST(StrictYamlTest, RefusesKeysThatAreNoStrings) {
  EXPECT_THAT(Refusal("? [a]\n: 1\n"), HasSubstr("a key must be a scalar"));
  EXPECT_THAT(Refusal("? {a: 1}\n: 1\n"), HasSubstr("a key must be a scalar"));
  EXPECT_THAT(Refusal("~: 1\n"), HasSubstr("a key is empty"));
  EXPECT_THAT(Refusal(": 1\n"), HasSubstr("a key is empty"));
  EXPECT_THAT(Refusal("'': 1\n"), HasSubstr("a key has 0 bytes"));
  EXPECT_THAT(Refusal(std::string(257, 'k') + ": 1\n"), HasSubstr("257 bytes"));
}

TEST(StrictYamlTest, BoundsNestingAndSize) {
  const auto nested = [](size_t depth, const char* open, const char* close) {
    std::string text = "a: ";
    for (size_t i = 0; i < depth; ++i) text += open;
    for (size_t i = 0; i < depth; ++i) text += close;
    return text;
  };
  EXPECT_EQ(Refusal(nested(15, "[", "]")), "accepted");
  EXPECT_THAT(Refusal(nested(16, "[", "]")), HasSubstr("nested deeper than 16 levels"));
  // Neither the scanner nor the parser may recurse with the input.
  EXPECT_NE(Refusal(nested(300000, "[", "]")), "accepted");
  EXPECT_NE(Refusal(nested(200000, "{a: ", "}")), "accepted");
  EXPECT_NE(Refusal(nested(500000, "[", "")), "accepted");
  EXPECT_NE(Refusal(nested(500000, "- ", "")), "accepted");
  EXPECT_NE(Refusal(nested(500000, "? ", "")), "accepted");
  std::string staircase;
  for (size_t i = 0; i < 1000; ++i) staircase += std::string(i, ' ') + "a:\n";
  EXPECT_THAT(Refusal(staircase), HasSubstr("nested deeper"));
  EXPECT_EQ(Message(ParseStrictYaml("a: 12\n", 5).status()), "6 bytes, limit 5");
}

TEST(StrictYamlTest, RefusesStrangeBytes) {
  EXPECT_EQ(Refusal("a: \xFF\n"), "not UTF-8");
  EXPECT_EQ(Refusal(std::string_view("a: 1\nb: \0\n", 10)), "line 2: a control character");
  EXPECT_EQ(Refusal("a: \x1B[1m\n"), "line 1: a control character");
  EXPECT_EQ(Refusal("\xEF\xBB\xBF"
                    "a: 1\n"),
            "line 1: starts with a byte order mark");
  EXPECT_EQ(Refusal("a: \xE6\x97\xA5\r\nb: 1\r\n"), "accepted");
}

TEST(StrictYamlTest, ErrorsOfTheScannerNameTheLine) {
  EXPECT_THAT(Refusal("a: 1\nb: [1\n"), HasSubstr("line "));
  EXPECT_THAT(Refusal("a: 1\n  b: 2\n"), StartsWith("line 2: "));
  EXPECT_THAT(Refusal("a: 1\n\tb: 2\n"), StartsWith("line "));
  EXPECT_THAT(Refusal("a: \"\\q\"\n"), StartsWith("line 1: "));
  for (const char* cut_off :
       {"a: \"b", "a: \"b\n", "a: 'b", "a: {b: \"c", "a: [", "a: {b", "\"a"}) {
    EXPECT_THAT(Refusal(cut_off), StartsWith("line ")) << cut_off;
  }
  EXPECT_EQ(Refusal("a: b"), "accepted");
  EXPECT_EQ(Refusal("a: |\n  b"), "accepted");
  EXPECT_EQ(Refusal("a: 1\n...\n"), "accepted");
  EXPECT_THAT(Refusal("a: @b\n"), StartsWith("line "));
}

TEST(StrictYamlTest, StringsAreNotNumbersBoolsOrNull) {
  for (const char* plain : {"1", "-1", "1.5", ".5", "-.5", "1e5", "0x1F", "0o7", ".inf", "-.inf",
                            ".nan", "true", "False", "1e400", "007"}) {
    const YamlNode root = Parse(std::string("a: ") + plain + "\n");
    EXPECT_THAT(Message(YamlView(root)["a"].String(99).status()), HasSubstr("quote it")) << plain;
    EXPECT_EQ(*YamlView(root)["a"].AnyScalar(99), plain);
    const YamlNode quoted = Parse(std::string("a: '") + plain + "'\n");
    EXPECT_EQ(*YamlView(quoted)["a"].String(99), plain);
  }
  for (const char* plain :
       {"one", "1a", "a1", "v1.2", "--1", "e5", "inf", "1 2", "no-1", "sha256:12", "12:30"}) {
    const YamlNode root = Parse(std::string("a: ") + plain + "\n");
    EXPECT_EQ(*YamlView(root)["a"].String(99), plain);
  }
  const YamlNode root = Parse("a: abcd\n");
  EXPECT_EQ(Message(YamlView(root)["a"].String(3).status()), "a (line 1): has 4 bytes, limit 3");
}

TEST(StrictYamlTest, IntegersAreCanonical) {
  const auto read = [](const char* plain) {
    const YamlNode root = Parse(std::string("a: ") + plain + "\n");
    return YamlView(root)["a"].Integer(INT64_MIN, INT64_MAX);
  };
  EXPECT_EQ(*read("0"), 0);
  EXPECT_EQ(*read("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(*read("-9223372036854775808"), INT64_MIN);
  for (const char* plain : {"9223372036854775808", "-9223372036854775809", "-0", "00", "01", "+1",
                            "1.0", "1e2", "0x1", "0b1", "1_000", "'1'", "1 2", "--1", ""}) {
    EXPECT_FALSE(read(plain).ok()) << plain;
  }
}

TEST(StrictYamlTest, BoolsAreTrueOrFalse) {
  for (const char* plain : {"yes", "no", "on", "off", "True", "TRUE", "'true'", "1", "y", ""}) {
    const YamlNode root = Parse(std::string("a: ") + plain + "\n");
    EXPECT_FALSE(YamlView(root)["a"].Bool().ok()) << plain;
  }
  const YamlNode root = Parse("a: true\n");
  EXPECT_TRUE(*YamlView(root)["a"].Bool());
}

}  // namespace
}  // namespace monet
