#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/text_input.h"

namespace monet::cli {
namespace {

using testing::HasSubstr;

// The option --x after parsing `--x=value`.
class Parsed {
 public:
  explicit Parsed(const std::string& value) : option_(AddValue(&app_, "--x", "X", "")) {
    std::vector<std::string> words = {value, "--x"};  // CLI11 takes them in reverse
    app_.parse(words);
  }
  const CLI::Option* operator->() const { return option_; }
  const CLI::Option* get() const { return option_; }

 private:
  CLI::App app_;
  CLI::Option* option_;
};

TEST(Options, NumbersAreDecimalAndWhole) {
  EXPECT_EQ(**Int32Of(Parsed("010").get()), 10);
  EXPECT_EQ(**Int32Of(Parsed("-2147483648").get()), INT32_MIN);
  EXPECT_EQ(**Uint64Of(Parsed("18446744073709551615").get()), UINT64_MAX);
  EXPECT_EQ(**FiniteOf(Parsed("0.25").get()), 0.25);
  EXPECT_EQ(**FiniteOf(Parsed("-1e-3").get()), -1e-3);
}

TEST(Options, OtherNumbersAreRefusedByName) {
  for (const char* text : {"", " 1", "1 ", "0x10", "1.0", "2147483648", "+1", "1,2", "{}"}) {
    const auto value = Int32Of(Parsed(text).get());
    ASSERT_FALSE(value.ok()) << text;
    EXPECT_THAT(Message(value.status()), HasSubstr("--x is '" + std::string(text) + "'"));
  }
  for (const char* text : {"-1", "18446744073709551616", "1e3"}) {
    EXPECT_FALSE(Uint64Of(Parsed(text).get()).ok()) << text;
  }
  for (const char* text : {"nan", "inf", "-inf", "1e999", "0,5", "1f"}) {
    EXPECT_FALSE(FiniteOf(Parsed(text).get()).ok()) << text;
  }
}

TEST(Options, AbsentIsNothing) {
  CLI::App app;
  const CLI::Option* option = AddValue(&app, "--x", "X", "");
  EXPECT_FALSE(Int32Of(option)->has_value());
  EXPECT_FALSE(FiniteOf(option)->has_value());
  EXPECT_FALSE(TextOf(option)->has_value());
}

TEST(Options, TextIsTakenAsItIs) {
  for (const char* text : {"", "{}", "[a,b]", "%%", "'q'", "\"q\"", "a,b", "-7", "true"}) {
    EXPECT_EQ(**TextOf(Parsed(text).get()), text);
  }
}

TEST(Options, TextIsUtf8) {
  EXPECT_TRUE(RequireUtf8("f", "aß€😀\U0010FFFF\uD7FF").ok());
  EXPECT_TRUE(RequireUtf8("f", std::string_view("a\0b", 3)).ok());
  for (const char* bad : {"ab\xFF", "ab\x80", "ab\xC0\xAF", "ab\xC3", "ab\xE0\x80\x80",
                          "ab\xED\xA0\x80", "ab\xF4\x90\x80\x80", "ab\xF0\x8F\xBF\xBF",
                          "ab\xE2\x82", "ab\xE2\x82g", "ab\xF8\x88\x80\x80\x80"}) {
    EXPECT_THAT(Message(RequireUtf8("f", bad)), HasSubstr("f is not UTF-8 at byte 2"));
  }
  EXPECT_THAT(Message(TextOf(Parsed("\xFF").get()).status()), HasSubstr("--x is not UTF-8"));
}

}  // namespace
}  // namespace monet::cli
