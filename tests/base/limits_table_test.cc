// Every limit of runtime/limits.h has its row, so none can be added without being documented.
#include "runtime/base/limits_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace monet {
namespace {

TEST(LimitsTable, HasARowForEveryLimitAndNoOther) {
  std::ifstream in(MONET_SOURCE_DIR "/runtime/limits.h");
  const std::string header((std::istreambuf_iterator<char>(in)), {});
  const std::regex declaration("inline constexpr \\w+ (k\\w+)");
  std::set<std::string> declared;
  for (std::sregex_iterator it(header.begin(), header.end(), declaration), end; it != end; ++it) {
    declared.insert((*it)[1]);
  }
  ASSERT_GT(declared.size(), 50u) << "limits.h is not declared as this test reads it";
  std::multiset<std::string> rows;
  for (const LimitRow& row : LimitRows()) rows.insert(row.constant);
  EXPECT_THAT(rows, ::testing::ElementsAreArray(declared));
}

TEST(LimitsTable, RowsSayWhatHappensAndStayInTheirGroups) {
  LimitRow::Group last = LimitRow::Group::kModel;
  for (const LimitRow& row : LimitRows()) {
    EXPECT_GE(row.group, last) << row.constant;
    last = row.group;
    EXPECT_GT(row.value, 0) << row.constant;
    EXPECT_NE(row.reason.has_value(), row.beyond != nullptr) << row.constant;
    EXPECT_FALSE(BeyondText(row).empty());
    // It knows no reasons of this server, and sends a code alone.
    if (std::string(row.checked).starts_with("gRPC")) {
      EXPECT_FALSE(row.reason.has_value()) << row.constant;
      EXPECT_THAT(BeyondText(row), ::testing::StartsWith("RESOURCE_EXHAUSTED")) << row.constant;
    }
  }
}

}  // namespace
}  // namespace monet
