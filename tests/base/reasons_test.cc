#include "runtime/base/reasons.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

namespace monet {
namespace {

TEST(ReasonsTest, TableIsWhole) {
  std::set<std::string> names;
  for (const ReasonInfo& info : Reasons()) {
    EXPECT_EQ(&InfoOf(info.reason), &info);
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_TRUE(std::all_of(info.name, info.name + std::string(info.name).size(), [](char c) {
      return (c >= 'A' && c <= 'Z') || c == '_';
    })) << info.name;
    EXPECT_TRUE(std::string(info.meaning).ends_with('.')) << info.name;
    EXPECT_TRUE(std::string(info.remedy).ends_with('.')) << info.name;
    EXPECT_NE(info.code, absl::StatusCode::kOk) << info.name;
    // A delay makes sense only where the server's state, not the request, is to blame.
    EXPECT_FALSE(info.names_field && info.retry_after.count() > 0) << info.name;
  }
}

TEST(ReasonsTest, RefusalsCarryCodeReasonAndField) {
  const absl::Status status = InvalidField("stopping.stop[{}] is empty", 3);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status), "stopping.stop[3] is empty");
  EXPECT_EQ(ReasonOf(status).reason, Reason::kInvalidField);
  EXPECT_EQ(FieldOf(status), "stopping.stop[3]");

  EXPECT_EQ(FieldOf(Refuse(Reason::kMaskNotAllowed, "mask.experts: not for you")), "mask.experts");
  EXPECT_EQ(FieldOf(InvalidField("prompt")), "prompt");
  EXPECT_EQ(FieldOf(Refuse(Reason::kQueueFull, "the queue is full")), "");
}

TEST(ReasonsTest, AtFieldKeepsTheReason) {
  EXPECT_TRUE(AtField("x", absl::OkStatus()).ok());
  const absl::Status unknown =
      AtField("mask.policies[1]", Refuse(Reason::kPolicyUnknown, "policy a is not known"));
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(unknown), "mask.policies[1]: policy a is not known");
  EXPECT_EQ(ReasonOf(unknown).reason, Reason::kPolicyUnknown);
  EXPECT_EQ(FieldOf(unknown), "mask.policies[1]");

  const absl::Status plain = AtField("mask.experts[0].ids[2]", InvalidArgument("too far"));
  EXPECT_EQ(ReasonOf(plain).reason, Reason::kInvalidField);
  EXPECT_EQ(FieldOf(plain), "mask.experts[0].ids[2]");
}

// A code that names no reason is the server's own fault, so that its text stays inside.
TEST(ReasonsTest, StatusesWithoutAReasonHaveTheirCodes) {
  using Code = absl::StatusCode;
  const auto reason = [](Code code) { return ReasonOf(Error(code, "x")).reason; };
  EXPECT_EQ(reason(Code::kInvalidArgument), Reason::kInvalidField);
  EXPECT_EQ(reason(Code::kCancelled), Reason::kCancelled);
  EXPECT_EQ(reason(Code::kDeadlineExceeded), Reason::kDeadlineExceeded);
  for (Code code : {Code::kInternal, Code::kUnknown, Code::kDataLoss, Code::kNotFound,
                    Code::kFailedPrecondition, Code::kPermissionDenied}) {
    EXPECT_EQ(reason(code), Reason::kInternal);
  }
}

}  // namespace
}  // namespace monet
