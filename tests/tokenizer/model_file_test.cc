#include "runtime/tokenizer/model_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "runtime/limits.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tests/tokenizer/model_writer.h"

namespace monet {
namespace {

using testing::BytesField;
using testing::FloatField;
using ::testing::HasSubstr;
using testing::Piece;
using testing::Settings;
using testing::Specials;
using testing::VarintField;

std::string Refusal(const std::string& model) {
  const auto tokenizer = Tokenizer::FromBytes(model);
  if (tokenizer.ok()) return "accepted";
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return Message(tokenizer.status());
}

TEST(ModelFileTest, ReadsPiecesInOrder) {
  const std::string model = Specials() + Piece("ab") + Piece("c", 5) + Settings(false);
  const auto pieces = ReadModelFile(model);
  ASSERT_TRUE(pieces.ok()) << Message(pieces.status());
  ASSERT_EQ(pieces->size(), 5u);
  EXPECT_EQ((*pieces)[0].type, ModelPiece::Type::kUnknown);
  EXPECT_EQ((*pieces)[2].text, "</s>");
  EXPECT_EQ((*pieces)[3].type, ModelPiece::Type::kNormal);
  EXPECT_EQ((*pieces)[4].type, ModelPiece::Type::kUnused);
  EXPECT_EQ(Refusal(model), "accepted");
}

TEST(ModelFileTest, ReadsBytePieces) {
  EXPECT_EQ(BytePieceValue("<0x00>"), 0);
  EXPECT_EQ(BytePieceValue("<0xAF>"), 0xAF);
  for (const char* text : {"", "<0xA>", "<0xAG>", "<0xaf>", "<0x414>", "x0x41>", "<0x41<"}) {
    EXPECT_EQ(BytePieceValue(text), -1) << text;
  }
}

TEST(ModelFileTest, RefusesBytesThatAreNoModel) {
  const std::string good = Specials() + Piece("a") + Settings(false);
  for (const std::string& bad :
       {std::string("\x08"),                                      // a tag without its value
        std::string("\x0A\x7F", 2),                               // longer than the file
        std::string("\x00\x00", 2),                               // field 0
        std::string("\x0B\x0C", 2),                               // a group
        std::string(11, '\xFF'),                                  // endless varint
        std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"),  // size near 2^63
        VarintField(1, 5),                                        // a piece that is a number
        BytesField(1, VarintField(1, 5)),                         // a text that is a number
        BytesField(1, BytesField(1, "a") + VarintField(2, 1)),    // a score that is no float
        VarintField(2, 2), VarintField(3, 2), VarintField(5, 2),
        BytesField(2, BytesField(3, "BPE")), BytesField(3, VarintField(2, 1))}) {
    EXPECT_THAT(Refusal(good + bad), HasSubstr("damaged"));
  }
}

TEST(ModelFileTest, RefusesUnusablePieces) {
  const std::string s = Settings(false);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(Refusal(s), HasSubstr("no pieces"));
  EXPECT_THAT(Refusal(Piece("<s>", 3) + Piece("a") + s), HasSubstr("0 unknown pieces"));
  EXPECT_THAT(Refusal(Specials() + Piece("<u>", 2) + s), HasSubstr("2 unknown pieces"));
  EXPECT_THAT(Refusal(Specials() + Piece("") + s), HasSubstr("piece 3 is not 1 to 1024 bytes"));
  EXPECT_THAT(Refusal(Specials() + Piece(std::string(1025, 'a')) + s), HasSubstr("piece 3"));
  EXPECT_EQ(Refusal(Specials() + Piece(std::string(1024, 'a')) + s), "accepted");
  EXPECT_THAT(Refusal(Specials() + Piece("\xFF") + s), HasSubstr("piece 3"));
  EXPECT_THAT(Refusal(Specials() + Piece("a", 0) + s), HasSubstr("unknown type 0"));
  EXPECT_THAT(Refusal(Specials() + Piece("a", 7) + s), HasSubstr("unknown type 7"));
  EXPECT_THAT(Refusal(Specials() + Piece("a", 1, infinity) + s), HasSubstr("not finite"));
  EXPECT_THAT(Refusal(Specials() + Piece("a", 1, infinity - infinity) + s),
              HasSubstr("not finite"));
  EXPECT_THAT(Refusal(Specials() + Piece("a") + Piece("a") + s), HasSubstr("occurs twice"));
  EXPECT_THAT(Refusal(Specials() + Piece("0x41", 6) + Settings(true)), HasSubstr("<0xNN>"));
}

TEST(ModelFileTest, RefusesReservedPiecesThatTextCouldYield) {
  const std::string s = Settings(false);
  // SentencePiece looks a final symbol up among the reserved pieces first.
  EXPECT_THAT(Refusal(Specials() + Piece("<s>", 1) + s), HasSubstr("occurs twice"));
  EXPECT_THAT(Refusal(Specials() + Piece("<s>", 4) + s), HasSubstr("occurs twice"));
  EXPECT_THAT(Refusal(Specials() + Piece("x", 3) + s), HasSubstr("single character"));
  EXPECT_THAT(Refusal(Specials() + Piece("\xE2\x96\x81", 3) + s), HasSubstr("single character"));
}

TEST(ModelFileTest, RefusesOtherKindsOfModels) {
  for (int type : {0, 1, 3, 4, 5}) {
    EXPECT_THAT(Refusal(Specials() + Piece("a") + Settings(false, type)), HasSubstr("not a BPE"));
  }
  EXPECT_THAT(Refusal(Specials() + Piece("a")), HasSubstr("not a BPE"));
  const std::string table = BytesField(2, std::string(2048, '\0'));
  const std::string good = Specials() + Piece("a") + Settings(false);
  EXPECT_THAT(Refusal(good + BytesField(3, table)), HasSubstr("normalisation table"));
  EXPECT_THAT(Refusal(good + BytesField(5, table)), HasSubstr("normalisation table"));
}

TEST(ModelFileTest, RefusesBytePiecesThatSentencePieceRefuses) {
  EXPECT_THAT(Refusal(Specials() + Piece("<0x41>", 6) + Settings(false)),
              HasSubstr("SentencePiece refuses it"));
  EXPECT_THAT(Refusal(Specials() + Piece("<0x41>", 6) + Settings(true)),
              HasSubstr("SentencePiece refuses it"));
}

TEST(ModelFileTest, BoundsUserDefinedPieces) {
  std::string model = Specials();
  for (size_t length = 1; length <= 64; ++length) model += Piece(std::string(length, 'a'), 4);
  model += Piece("b", 4);
  ASSERT_EQ(Refusal(model + Settings(false)), "accepted");
  const auto tokenizer = Tokenizer::FromBytes(model + Settings(false));
  EXPECT_EQ((*tokenizer)->Encode(std::string(200, 'a'))->size(), 5u);  // unknown ▁, 64·3 + 8

  EXPECT_THAT(Refusal(model + Piece(std::string(65, 'a'), 4) + Settings(false)),
              HasSubstr("more than 64 user-defined"));
  EXPECT_THAT(Refusal(Specials() + Piece(std::string("a\0", 2), 4) + Settings(false)),
              HasSubstr("NUL"));
}

TEST(ModelFileTest, BoundsEverything) {
  const std::string good = Specials() + Piece("a") + Settings(false);
  EXPECT_THAT(Refusal(std::string(limits::kMaxTokenizerBytes + 1, '\0')), HasSubstr("limit"));
  EXPECT_THAT(Refusal(good + BytesField(2, std::string(1 << 20, '\0'))),
              HasSubstr("bytes of settings"));
  std::string many = good;
  for (int i = 0; i < (1 << 19); ++i) many += BytesField(4, "");
  EXPECT_THAT(Refusal(many), HasSubstr("bytes of settings"));
}

TEST(ModelFileTest, BoundsTheNumberOfPieces) {
  std::string many;
  for (int64_t i = 0; i <= limits::kMaxVocabulary; ++i) many += BytesField(1, BytesField(1, "a"));
  EXPECT_THAT(Refusal(many), HasSubstr("more than 1048576 pieces"));
}

}  // namespace
}  // namespace monet
