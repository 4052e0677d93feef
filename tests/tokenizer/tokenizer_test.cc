#include "runtime/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "tests/tokenizer/model_writer.h"

namespace monet {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Piece;
using testing::Settings;
using testing::Specials;

const std::filesystem::path kSource = MONET_SOURCE_DIR;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

const std::string& DemoModel() {
  static const std::string model = ReadFile(kSource / "models/demo/tokenizer.model");
  return model;
}

const Tokenizer& Demo() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    auto loaded = Tokenizer::FromFile(kSource / "models/demo/tokenizer.model");
    EXPECT_TRUE(loaded.ok()) << Message(loaded.status());
    return *std::move(loaded);
  }();
  return *tokenizer;
}

std::string JoinedBytes(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string bytes;
  for (int32_t id : ids) bytes += tokenizer.TokenBytes(id);
  return bytes;
}

TEST(TokenizerTest, AgreesWithSentencePieceOnGoldenTexts) {
  const auto cases = nlohmann::json::parse(ReadFile(kSource / "tests/data/demo/tokenizer.json"));
  ASSERT_GT(cases.size(), 20u);
  for (const auto& golden : cases) {
    const auto text = golden["text"].get<std::string>();
    const auto ids = Demo().Encode(text);
    ASSERT_TRUE(ids.ok()) << text;
    EXPECT_EQ(*ids, golden["ids"].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(Demo().Decode(*ids), golden["decoded"].get<std::string>()) << text;
    // The table of bytes says the same, with the dummy prefix in front.
    std::string expected = text.empty() ? "" : " ";
    expected += golden["decoded"].get<std::string>();
    EXPECT_EQ(JoinedBytes(Demo(), *ids), expected);
  }
}

TEST(TokenizerTest, KnowsItsSpecialTokens) {
  EXPECT_EQ(Demo().vocabulary(), 4096);
  EXPECT_EQ(Demo().bos_id(), 1);
  EXPECT_EQ(Demo().eos_id(), 2);
  for (int32_t id : {1, 2}) {
    EXPECT_TRUE(Demo().IsControl(id));
    EXPECT_EQ(Demo().TokenBytes(id), "");
  }
  EXPECT_FALSE(Demo().IsControl(0));
  EXPECT_EQ(Demo().TokenBytes(0), " \xE2\x81\x87 ");  // as SentencePiece shows the unknown token
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(Demo().TokenBytes(3 + byte), std::string(1, static_cast<char>(byte)));
    EXPECT_FALSE(Demo().IsControl(3 + byte));
  }
}

TEST(TokenizerTest, UserTextNeverYieldsControlTokens) {
  for (const char* text : {"<s>", "</s>", "<unk>", "<0x41>", "a<s>b</s>", "<s></s>", " <s> ",
                           "\xE2\x96\x81<s>", "[INST] </s> [/INST]"}) {
    const auto ids = Demo().Encode(text);
    ASSERT_TRUE(ids.ok());
    for (int32_t id : *ids) {
      EXPECT_FALSE(Demo().IsControl(id)) << text;
      EXPECT_NE(id, 0) << text;
    }
    // Written out, not read as that byte.
    if (std::string_view(text) == "<0x41>") {
      EXPECT_GT(ids->size(), 2u);
      EXPECT_EQ(Demo().Decode(*ids), "<0x41>");
    }
  }
}

TEST(TokenizerTest, TakesNulAndRefusesInvalidUtf8) {
  const std::string with_nul("a\0b", 3);
  const auto ids = Demo().Encode(with_nul);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(Demo().Decode(*ids), with_nul);

  for (const char* text : {"\xFF", "a\xC0\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x96"}) {
    const auto refused = Demo().Encode(text);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(refused.status()), HasSubstr("UTF-8"));
  }
}

TEST(TokenizerTest, DecodesAnyIds) {
  EXPECT_EQ(Demo().Decode({}), "");
  EXPECT_EQ(Demo().Decode({1, 265, 2}), "a");
  EXPECT_EQ(Demo().Decode({-1, 4096, INT32_MAX, INT32_MIN, 265}), "a");
  EXPECT_EQ(Demo().Decode({3 + 0xE2, 3 + 0x96}), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

// A model with byte pieces, "▁▁" and "ab".
std::string ByteModel(bool drop_spaces) {
  std::string model = Specials();
  for (int byte = 0; byte < 256; ++byte) model += Piece(fmt::format("<0x{:02X}>", byte), 6);
  return model + Piece("\xE2\x96\x81\xE2\x96\x81") + Piece("\xE2\x96\x81") + Piece("ab") +
         Piece("a") + Piece("b") + Settings(/*byte_fallback=*/true, /*model_type=*/2, drop_spaces);
}

TEST(TokenizerTest, BoundsTheBytesThatIdsCanStandFor) {
  const auto tokenizer = Tokenizer::FromBytes(ByteModel(/*drop_spaces=*/false));
  ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  EXPECT_EQ((*tokenizer)->MaxTextBytes(0), 0u);
  EXPECT_EQ((*tokenizer)->MaxTextBytes(10), 60u);  // "▁▁" is the longest but for <0xNN>, as long
  std::string symbols;
  for (int n = 0; n < 500; ++n) symbols += "\xE2\x96\x81";
  for (const std::string& text :
       {std::string(1000, ' '), std::string("ab ab"), symbols, std::string("\xF0\x9F\x98\x80")}) {
    for (const Tokenizer* model : {static_cast<const Tokenizer*>(tokenizer->get()), &Demo()}) {
      const auto ids = model->Encode(text);
      ASSERT_TRUE(ids.ok());
      EXPECT_LE(text.size(), model->MaxTextBytes(static_cast<int32_t>(ids->size()))) << text;
    }
  }
}

TEST(TokenizerTest, SetsNoBoundWhereAnyLengthFits) {
  const auto drops = Tokenizer::FromBytes(ByteModel(/*drop_spaces=*/true));
  ASSERT_TRUE(drops.ok()) << Message(drops.status());
  EXPECT_LE((*drops)->Encode(std::string(1000, ' '))->size(), 1u);
  EXPECT_EQ((*drops)->MaxTextBytes(1), SIZE_MAX);
  const auto joins = Tokenizer::FromBytes(Specials() + Piece("a") + Settings(false));
  ASSERT_TRUE(joins.ok()) << Message(joins.status());
  EXPECT_LE((*joins)->Encode(std::string(1000, 'x'))->size(), 2u);
  EXPECT_EQ((*joins)->MaxTextBytes(1), SIZE_MAX);
}

TEST(TokenizerTest, RefusesTextsThatAreTooLong) {
  const auto refused = Demo().Encode(std::string((64 << 20) + 1, 'a'));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(refused.status()), HasSubstr("limit 67108864"));
}

TEST(TokenizerTest, WorksWithoutBytePieces) {
  const std::string model = testing::Specials() + Piece("\xE2\x96\x81") + Piece("a") + Piece("b") +
                            Piece("ab") + testing::Settings(/*byte_fallback=*/false);
  const auto tokenizer = Tokenizer::FromBytes(model);
  ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  EXPECT_THAT(*(*tokenizer)->Encode("ab"), ElementsAre(3, 6));
  // A run of unknown characters is one unknown token.
  EXPECT_THAT(*(*tokenizer)->Encode("axyz"), ElementsAre(3, 4, 0));
  EXPECT_THAT(*(*tokenizer)->Encode(std::string(64 << 10, 'x')), ElementsAre(3, 0));
  EXPECT_THAT(Message((*tokenizer)->Encode(std::string((64 << 10) + 1, 'x')).status()),
              HasSubstr("limit 65536"));
}

TEST(TokenizerTest, HasNoIdWithoutThatPiece) {
  const auto tokenizer = Tokenizer::FromBytes(Piece("a") + Piece("<unk>", 2) + Piece("</s>", 3) +
                                              testing::Settings(false));
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ((*tokenizer)->bos_id(), -1);
  EXPECT_EQ((*tokenizer)->eos_id(), 2);
}

TEST(TokenizerTest, RefusesMissingAndEmptyFiles) {
  for (const auto& path : {kSource / "no/such/tokenizer.model", kSource / "models", kSource}) {
    const auto refused = Tokenizer::FromFile(path);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << path;
  }
  EXPECT_EQ(Tokenizer::FromBytes("").status().code(), absl::StatusCode::kInvalidArgument);
}

// A damaged model is refused or works; nothing crashes and nothing is printed.
void LoadAndUse(const std::string& model) {
  auto tokenizer = Tokenizer::FromBytes(model);
  if (!tokenizer.ok()) {
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
    return;
  }
  for (const char* text : {"Hello <s> world", "\xE6\x97\xA5 \xF0\x9F\x99\x82", ""}) {
    const auto ids = (*tokenizer)->Encode(text);
    ASSERT_TRUE(ids.ok());
    for (int32_t id : *ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, (*tokenizer)->vocabulary());
      ASSERT_FALSE((*tokenizer)->IsControl(id));
    }
    (*tokenizer)->Decode(*ids);
  }
}

TEST(TokenizerTest, SurvivesDamagedModels) {
  const std::string& model = DemoModel();
  ::testing::internal::CaptureStderr();
  std::mt19937 random(7);
  for (int i = 0; i < 100; ++i) {
    LoadAndUse(model.substr(0, model.size() * i / 100));
    std::string damaged = model;
    // The first 4 KiB hold the special and byte pieces, the last 200 bytes the settings.
    const size_t ranges[] = {model.size(), 4096, 200};
    for (int change = 0; change <= i % 3; ++change) {
      const size_t range = ranges[random() % 3];
      const size_t at = random() % range;
      damaged[range == 200 ? model.size() - 1 - at : at] = static_cast<char>(random());
    }
    LoadAndUse(damaged);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace monet
