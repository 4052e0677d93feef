#include "runtime/tokenizer/stream_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "runtime/base/utf8.h"

namespace monet {
namespace {

constexpr char kFffd[] = "\xEF\xBF\xBD";

struct Outcome {
  std::string text;
  std::string matched;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

// What the header promises, on the whole text at once.
Outcome Expected(std::string_view bytes, const std::vector<std::string>& stops) {
  Outcome outcome;
  while (!bytes.empty()) {
    const Utf8Unit unit = NextUtf8(bytes);
    const bool character = unit.kind == Utf8Unit::Kind::kCharacter;
    outcome.text += character ? bytes.substr(0, unit.length) : std::string_view(kFffd);
    bytes.remove_prefix(unit.length);
  }
  size_t first = std::string::npos;
  for (const std::string& stop : stops) {
    const size_t at = outcome.text.find(stop);
    if (at == std::string::npos) continue;
    if (at < first || (at == first && stop.size() < outcome.matched.size())) {
      first = at;
      outcome.matched = stop;
      outcome.stopped = true;
    }
  }
  if (outcome.stopped) outcome.text.resize(first);
  return outcome;
}

Outcome Decode(const std::vector<std::string>& tokens, const std::vector<std::string>& stops) {
  StreamDecoder decoder(stops);
  Outcome outcome;
  for (const std::string& token : tokens) outcome.text += decoder.Push(token);
  outcome.text += decoder.Flush();
  outcome.stopped = decoder.stopped();
  outcome.matched = decoder.matched();
  return outcome;
}

TEST(StreamDecoderTest, HoldsBackIncompleteCharacters) {
  StreamDecoder decoder({});
  EXPECT_EQ(decoder.Push("a\xF0\x9F"), "a");
  EXPECT_EQ(decoder.Push("\x99"), "");
  EXPECT_EQ(decoder.Push("\x82z"), "\xF0\x9F\x99\x82z");
  EXPECT_EQ(decoder.Push("\xE2\x82"), "");
  EXPECT_EQ(decoder.Flush(), kFffd);
  EXPECT_FALSE(decoder.stopped());
}

TEST(StreamDecoderTest, ReplacesBytesThatCannotBecomeText) {
  StreamDecoder decoder({});
  EXPECT_EQ(decoder.Push("\xFF"), kFffd);
  EXPECT_EQ(decoder.Push("\xE2\x82"), "");
  EXPECT_EQ(decoder.Push("A"), std::string(kFffd) + "A");
  EXPECT_EQ(decoder.Push("\xED\xA0\x80"), std::string(kFffd) + kFffd + kFffd);
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(StreamDecoderTest, FindsStopStringsAcrossTokens) {
  StreamDecoder decoder({"###", "END"});
  EXPECT_EQ(decoder.Push("one#"), "one");
  EXPECT_EQ(decoder.Push("two##"), "#two");
  EXPECT_EQ(decoder.Push("E"), "##");
  EXPECT_FALSE(decoder.stopped());
  EXPECT_EQ(decoder.Push("ND of text"), "");
  EXPECT_TRUE(decoder.stopped());
  EXPECT_EQ(decoder.matched(), "END");
  EXPECT_EQ(decoder.Push("more"), "");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(StreamDecoderTest, GivesBackWhatDidNotBecomeAStopString) {
  StreamDecoder decoder({"<end>"});
  EXPECT_EQ(decoder.Push("a<en"), "a");
  EXPECT_EQ(decoder.Flush(), "<en");
  EXPECT_FALSE(decoder.stopped());
}

TEST(StreamDecoderTest, OverlappingBeginningsAreKept) {
  EXPECT_EQ(Decode({"a", "a", "a", "b"}, {"aab"}), (Outcome{"a", "aab", true}));
  EXPECT_EQ(Decode({"abab", "ac"}, {"abac"}), (Outcome{"ab", "abac", true}));
}

TEST(StreamDecoderTest, TheEarliestStopStringWins) {
  // "bc" is complete first but "abcd" begins first.
  EXPECT_EQ(Decode({"xab", "c", "d"}, {"bc", "abcd"}), (Outcome{"x", "abcd", true}));
  EXPECT_EQ(Decode({"xab", "c", "e"}, {"bc", "abcd"}), (Outcome{"xa", "bc", true}));
  // Decided by the end of the sequence.
  EXPECT_EQ(Decode({"xab", "c"}, {"bc", "abcd"}), (Outcome{"xa", "bc", true}));
  // At one place the shortest.
  EXPECT_EQ(Decode({"abc"}, {"abc", "ab"}), (Outcome{"", "ab", true}));
}

TEST(StreamDecoderTest, StopStringsMayHoldAnyCharacter) {
  EXPECT_EQ(Decode({"a\xE6", "\x97", "\xA5z"}, {"\xE6\x97\xA5"}),
            (Outcome{"a", "\xE6\x97\xA5", true}));
  EXPECT_EQ(Decode({"a\xFF"}, {kFffd}), (Outcome{"a", kFffd, true}));
  EXPECT_EQ(Decode({"a\xE6"}, {kFffd}), (Outcome{"a", kFffd, true}));  // at Flush
  const std::string nul(1, '\0');
  EXPECT_EQ(Decode({"a" + nul + "b"}, {nul}), (Outcome{"a", nul, true}));
  EXPECT_EQ(Decode({"ab"}, {""}), (Outcome{"ab", "", false}));
}

// Few letters, so that stop strings begin, fail and overlap often; broken UTF-8 among them.
std::string RandomBytes(std::mt19937& random, size_t most) {
  static const std::vector<std::string> kUnits = {
      "a",        "a",        "b",    "b",    "c",  "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x99\x82",
      "\xE2\x82", "\xF0\x9F", "\x80", "\xFF", kFffd};
  std::string bytes;
  for (size_t n = random() % (most + 1); n > 0; --n) bytes += kUnits[random() % kUnits.size()];
  return bytes;
}

std::vector<std::string> RandomStops(std::mt19937& random) {
  static const std::vector<std::string> kUnits = {"a", "a", "b", "b", "c", "\xE2\x82\xAC", kFffd};
  std::vector<std::string> stops(random() % 4);
  for (std::string& stop : stops) {
    for (size_t n = 1 + random() % 5; n > 0; --n) stop += kUnits[random() % kUnits.size()];
  }
  return stops;
}

TEST(StreamDecoderTest, RandomCutsGiveTheTextOfTheWhole) {
  std::mt19937 random(20);
  int stopped = 0;
  for (int round = 0; round < 30000; ++round) {
    const std::string bytes = RandomBytes(random, 24);
    const std::vector<std::string> stops = RandomStops(random);
    const Outcome expected = Expected(bytes, stops);
    stopped += expected.stopped;
    StreamDecoder decoder(stops);
    std::string text;
    size_t longest = 0;
    for (const std::string& stop : stops) longest = std::max(longest, stop.size());
    for (size_t at = 0; at < bytes.size();) {
      const size_t length = std::min<size_t>(random() % 5, bytes.size() - at);
      const std::string released = decoder.Push(std::string_view(bytes).substr(at, length));
      at += length;
      ASSERT_TRUE(IsUtf8(released));
      text += released;
      // Nothing that a later stop string takes back, and no more held back than it must be.
      ASSERT_TRUE(expected.text.starts_with(text)) << "round " << round;
      if (!decoder.stopped()) {
        const Outcome so_far = Expected(std::string_view(bytes).substr(0, at), {});
        ASSERT_LT(so_far.text.size() - text.size(), std::max<size_t>(longest, 1) + 4);
      }
    }
    text += decoder.Flush();
    ASSERT_EQ((Outcome{text, decoder.matched(), decoder.stopped()}), expected) << "round " << round;
  }
  EXPECT_GT(stopped, 3000);
  EXPECT_LT(stopped, 27000);
}

TEST(StreamDecoder, TextFromBeforeStopsCountIsNotSearched) {
  StreamDecoder decoder({"ab", "\xC3\xA9"});
  EXPECT_EQ(decoder.Push("xaba", /*may_stop=*/false), "xaba");
  EXPECT_EQ(decoder.Push("\xC3", /*may_stop=*/false), "");
  // Complete only now, so it counts.
  EXPECT_EQ(decoder.Push("\xA9"), "");
  EXPECT_TRUE(decoder.stopped());
  EXPECT_EQ(decoder.matched(), "\xC3\xA9");

  StreamDecoder later({"ab"});
  EXPECT_EQ(later.Push("a", /*may_stop=*/false), "a");
  EXPECT_EQ(later.Push("b"), "b");
  EXPECT_EQ(later.Push("za"), "z");
  EXPECT_EQ(later.Push("b"), "");
  EXPECT_TRUE(later.stopped());
}

}  // namespace
}  // namespace monet
