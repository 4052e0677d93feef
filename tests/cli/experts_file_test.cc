#include "cli/experts_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace monet::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string ErrorOf(std::string_view json) { return Message(ParseExpertsFile(json).status()); }

TEST(ExpertsFile, ReadsEveryListOfEveryRouter) {
  const auto entries = ParseExpertsFile(R"({"routers": [
      {"router": 1, "ids": [9223372036854775807, 0], "rows": [3], "columns": [2147483647, 7]},
      {"router": 0}]})");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].router(), 1);
  EXPECT_THAT((*entries)[0].ids(), ElementsAre(INT64_MAX, 0));
  EXPECT_THAT((*entries)[0].rows(), ElementsAre(3));
  EXPECT_THAT((*entries)[0].columns(), ElementsAre(INT32_MAX, 7));
  EXPECT_EQ((*entries)[1].router(), 0);
  EXPECT_THAT((*entries)[1].ids(), IsEmpty());
}

TEST(ExpertsFile, ReadsTheShorterForms) {
  for (const char* json : {R"([{"router": 2, "ids": [5]}])", R"({"router": 2, "ids": [5]})",
                           R"({"2": {"ids": [5]}})", R"({"routers": {"2": {"ids": [5]}}})"}) {
    const auto entries = ParseExpertsFile(json);
    ASSERT_TRUE(entries.ok()) << json << ": " << entries.status();
    ASSERT_EQ(entries->size(), 1u) << json;
    EXPECT_EQ((*entries)[0].router(), 2) << json;
    EXPECT_THAT((*entries)[0].ids(), ElementsAre(5)) << json;
  }
  for (const char* json : {"{}", "[]", R"({"routers": []})"}) {
    const auto entries = ParseExpertsFile(json);
    ASSERT_TRUE(entries.ok()) << json;
    EXPECT_TRUE(entries->empty()) << json;
  }
}

TEST(ExpertsFile, RefusesUnknownKeys) {
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "id": [1]}])"), HasSubstr("unknown key '[0].id'"));
  EXPECT_THAT(ErrorOf(R"({"routers": [], "model": "x"})"), HasSubstr("beside 'routers'"));
  EXPECT_THAT(ErrorOf(R"({"first": {"ids": [1]}})"), HasSubstr("unknown key 'first'"));
  EXPECT_THAT(ErrorOf(R"({"01": {"ids": [1]}})"), HasSubstr("unknown key '01'"));
  EXPECT_THAT(ErrorOf(R"({"-1": {"ids": [1]}})"), HasSubstr("unknown key '-1'"));
  EXPECT_THAT(ErrorOf(R"({"4294967296": {"ids": [1]}})"), HasSubstr("unknown key"));
  EXPECT_THAT(ErrorOf(R"({"0": {"router": 0}})"), HasSubstr("unknown key '0.router'"));
}

TEST(ExpertsFile, RefusesDuplicates) {
  EXPECT_THAT(ErrorOf(R"({"0": {"ids": [1]}, "0": {"ids": [2]}})"), HasSubstr("'0' twice"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "ids": [1], "ids": [2]}])"), HasSubstr("'ids' twice"));
  EXPECT_THAT(ErrorOf(R"([{"router": 3}, {"router": 3}])"), HasSubstr("router 3 twice"));
}

TEST(ExpertsFile, RefusesWhatIsNotAWholeNumber) {
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "ids": [-1]}])"), HasSubstr("[0].ids[0] is -1"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "ids": [1.5]}])"), HasSubstr("not a whole number"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "ids": [true]}])"), HasSubstr("not a whole number"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "ids": ["1"]}])"), HasSubstr("not a whole number"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "ids": [9223372036854775808]}])"),
              HasSubstr("from 0 to 9223372036854775807"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "rows": [2147483648]}])"),
              HasSubstr("from 0 to 2147483647"));
  EXPECT_THAT(ErrorOf(R"([{"router": -1}])"), HasSubstr("router is -1"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0, "ids": 7}])"), HasSubstr("[0].ids is not a list"));
}

TEST(ExpertsFile, RefusesOtherShapes) {
  EXPECT_THAT(ErrorOf(R"({"ids": [1]})"), HasSubstr("router is missing"));
  EXPECT_THAT(ErrorOf("[1]"), HasSubstr("[0] is not an object"));
  EXPECT_THAT(ErrorOf("7"), HasSubstr("neither an object nor a list"));
  EXPECT_THAT(ErrorOf(R"({"routers": 7})"), HasSubstr("neither an object nor a list"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("not JSON"));
  EXPECT_THAT(ErrorOf(R"([{"router": 0}] x)"), HasSubstr("not JSON"));
  std::string deep(100000, '[');
  deep.append(100000, ']');
  EXPECT_THAT(ErrorOf(deep), HasSubstr("nested too deeply"));
}

}  // namespace
}  // namespace monet::cli
