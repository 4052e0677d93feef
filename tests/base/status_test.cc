#include "runtime/base/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace monet {
namespace {

absl::StatusOr<std::unique_ptr<int>> Make(int value) {
  if (value < 0) return InvalidArgument("value is {}, limit {}", value, 0);
  return std::make_unique<int>(value);
}

absl::Status Use(int first, int second, int* sum) {
  MONET_ASSIGN_OR_RETURN(const std::unique_ptr<int> a, Make(first));
  MONET_ASSIGN_OR_RETURN(std::unique_ptr<int> b, Make(second));
  *sum = *a + *b;
  return absl::OkStatus();
}

absl::Status UseTwice(int value, int* sum) {
  MONET_RETURN_IF_ERROR(Use(value, value, sum));
  *sum *= 2;
  return absl::OkStatus();
}

TEST(StatusTest, MacrosPassValuesAndErrorsOn) {
  int sum = 0;
  EXPECT_TRUE(UseTwice(3, &sum).ok());
  EXPECT_EQ(sum, 12);
  for (const absl::Status& status : {Use(-1, 2, &sum), Use(2, -1, &sum), UseTwice(-1, &sum)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(Message(status), "value is -1, limit 0");
  }
  EXPECT_EQ(sum, 12);
  EXPECT_EQ(Error(absl::StatusCode::kNotFound, "{}", "x").code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace monet
