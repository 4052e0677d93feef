#include "server/serving_model.h"

#include <gtest/gtest.h>

#include <string>

#include "runtime/limits.h"

namespace monet::server {
namespace {

std::string NameOf(const std::string& directory, const std::string& configured = "") {
  ServerOptions options;
  options.model = directory;
  options.model_name = configured;
  return ModelName(options);
}

TEST(ModelName, IsTheDirectorysUnlessConfigured) {
  EXPECT_EQ(NameOf("/no/such/monet-850m"), "monet-850m");
  EXPECT_EQ(NameOf("/no/such/../monet"), "monet");
  EXPECT_EQ(NameOf("/no/such/monet", "other"), "other");
  EXPECT_EQ(NameOf("/"), "model");
}

// Strings of the API are UTF-8, names of folders are any bytes.
TEST(ModelName, HoldsVisibleAsciiOnly) {
  EXPECT_EQ(NameOf("/no/\xff\xfe"), "__");
  EXPECT_EQ(NameOf("/no/a b\n\"c\\\x1b"), "a_b__c__");
  EXPECT_EQ(NameOf("/no/" + std::string(200, 'x')), std::string(limits::kMaxModelNameBytes, 'x'));
}

}  // namespace
}  // namespace monet::server
