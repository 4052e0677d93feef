#include "runtime/model/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace monet {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ErrorOf(std::string_view text, const JsonLimits& limits = {}) {
  const auto result = ParseJsonObject(text, "file", limits);
  if (result.ok()) return "";
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(result.status()), StartsWith("file: "));
  return Message(result.status());
}

TEST(JsonTest, BuildsTheTree) {
  const auto json =
      ParseJsonObject(R"( {"a": [1, -2, 2.5, true, null, "x", {"b": {}}], "c": "d"} )", "file", {});
  ASSERT_TRUE(json.ok()) << json.status().ToString();
  EXPECT_EQ(*json, nlohmann::json::parse(R"({"a":[1,-2,2.5,true,null,"x",{"b":{}}],"c":"d"})"));
}

TEST(JsonTest, RefusesWhatIsNotAnObject) {
  for (const char* text : {"[]", "1", "null", "\"{}\""}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("not a JSON object")) << text;
  }
}

TEST(JsonTest, RefusesSyntaxErrors) {
  for (const char* text : {"", "{", "{}}", "{} {}", "{\"a\":}", "{\"a\":NaN}", "{\"a\":Infinity}",
                           "{\"a\":01}", "{'a':1}", "{\"a\":1,}", "{\"a\" 1}", "// x\n{}"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("not valid JSON at byte")) << text;
  }
  EXPECT_THAT(ErrorOf(std::string_view("{\"a\":\0}", 7)), HasSubstr("not valid JSON"));
}

TEST(JsonTest, RefusesDuplicateKeysAtAnyDepth) {
  EXPECT_THAT(ErrorOf(R"({"a": 1, "b": 2, "a": 3})"), HasSubstr("duplicate key \"a\""));
  EXPECT_THAT(ErrorOf(R"({"x": [{"a": 1, "a": 1}]})"), HasSubstr("duplicate key \"a\""));
  EXPECT_THAT(ErrorOf(R"({"a": 1, "\u0061": 1})"), HasSubstr("duplicate key \"a\""));
  EXPECT_EQ(ErrorOf(R"({"a": {"a": {"a": 1}}, "b": {"a": 1}})"), "");
}

TEST(JsonTest, RefusesNumbersThatNoDoubleHolds) {
  EXPECT_THAT(ErrorOf(R"({"a": 1e999})"), HasSubstr("number out of range"));
  EXPECT_EQ(ErrorOf(R"({"a": 1e-999})"), "");
}

TEST(JsonTest, RefusesStringsThatAreNotUtf8) {
  EXPECT_THAT(ErrorOf("{\"a\xff\": 1}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\": \"\xc3\"}"), HasSubstr("not valid JSON"));
  EXPECT_EQ(ErrorOf("{\"\xc3\xa4\": 1}"), "");
}

TEST(JsonTest, BoundsDepth) {
  const JsonLimits limits{.max_depth = 3, .max_values = 100};
  EXPECT_EQ(ErrorOf(R"({"a": [[1]]})", limits), "");
  EXPECT_THAT(ErrorOf(R"({"a": [[[]]]})", limits), HasSubstr("nested deeper than 3"));
  const std::string deep = "{\"a\":" + std::string(1'000'000, '[');
  EXPECT_THAT(ErrorOf(deep), HasSubstr("nested deeper than 16"));
}

TEST(JsonTest, BoundsTheNumberOfValues) {
  const JsonLimits limits{.max_depth = 3, .max_values = 4};
  EXPECT_EQ(ErrorOf(R"({"a": [1, 2]})", limits), "");
  EXPECT_THAT(ErrorOf(R"({"a": [1, 2, 3]})", limits), HasSubstr("more than 4 values"));
}

TEST(JsonTest, PrintableHidesWhatTerminalsWouldRun) {
  EXPECT_EQ(Printable("a\x1b[31m\n\xff"), "a?[31m??");
  EXPECT_EQ(Printable(std::string(100, 'x')), std::string(64, 'x') + "...");
}

}  // namespace
}  // namespace monet
