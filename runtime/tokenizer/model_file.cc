#include "runtime/tokenizer/model_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <unordered_set>

#include "runtime/base/utf8.h"
#include "runtime/limits.h"

namespace monet {
namespace {

constexpr size_t kMaxPieceBytes = 1024;
// Training settings, normalisation settings and self-tests together; real ones are under 2 KiB.
constexpr size_t kMaxSettingsBytes = 1 << 20;
// SentencePiece collects at most this many user-defined symbols that begin one text, in an array on
// its stack whose end it does not check.
constexpr size_t kMaxNestedSymbols = 64;
constexpr uint64_t kBpe = 2;  // TrainerSpec.ModelType

enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  uint64_t number = 0;
  Wire wire = Wire::kVarint;
  uint64_t value = 0;      // kVarint, kFixed32 and kFixed64
  std::string_view bytes;  // kBytes
};

// Takes the fields of one protobuf message one by one.
class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : rest_(bytes) {}

  bool AtEnd() const { return rest_.empty(); }

  // False when the bytes are no field (truncated, field 0, a group).
  bool Next(Field* field) {
    uint64_t tag = 0;
    if (!Varint(&tag)) return false;
    field->number = tag >> 3;
    if (field->number == 0 || tag > UINT32_MAX) return false;
    field->wire = static_cast<Wire>(tag & 7);
    switch (field->wire) {
      case Wire::kVarint:
        return Varint(&field->value);
      case Wire::kFixed32:
        return Fixed(4, &field->value);
      case Wire::kFixed64:
        return Fixed(8, &field->value);
      case Wire::kBytes: {
        uint64_t size = 0;
        if (!Varint(&size) || size > rest_.size()) return false;
        field->bytes = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return true;
      }
    }
    return false;
  }

 private:
  bool Varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return false;
      const auto byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      if (shift == 63 && byte > 1) return false;
      *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool Fixed(size_t size, uint64_t* value) {
    if (rest_.size() < size) return false;
    *value = 0;
    for (size_t i = 0; i < size; ++i) {
      *value |= static_cast<uint64_t>(static_cast<uint8_t>(rest_[i])) << (8 * i);
    }
    rest_.remove_prefix(size);
    return true;
  }

  std::string_view rest_;
};

absl::Status Damaged() {
  return InvalidArgument("tokenizer.model is damaged or not a SentencePiece model");
}

absl::StatusOr<ModelPiece> ReadPiece(std::string_view message, size_t id) {
  ModelPiece piece;
  FieldReader reader(message);
  Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(&field)) return Damaged();
    if (field.number == 1) {
      if (field.wire != Wire::kBytes) return Damaged();
      piece.text = field.bytes;
    } else if (field.number == 2) {
      if (field.wire != Wire::kFixed32) return Damaged();
      if (!std::isfinite(std::bit_cast<float>(static_cast<uint32_t>(field.value)))) {
        return InvalidArgument("tokenizer.model: the score of piece {} is not finite", id);
      }
    } else if (field.number == 3) {
      if (field.wire != Wire::kVarint) return Damaged();
      if (field.value < 1 || field.value > 6) {
        return InvalidArgument("tokenizer.model: piece {} has the unknown type {}", id,
                               field.value);
      }
      piece.type = static_cast<ModelPiece::Type>(field.value);
    }
  }
  if (piece.text.empty() || piece.text.size() > kMaxPieceBytes || !IsUtf8(piece.text)) {
    return InvalidArgument("tokenizer.model: piece {} is not 1 to {} bytes of UTF-8", id,
                           kMaxPieceBytes);
  }
  return piece;
}

// TrainerSpec: only its kind of model matters here.
absl::Status CheckTrainer(std::string_view message, bool* bpe) {
  FieldReader reader(message);
  Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(&field)) return Damaged();
    if (field.number != 3) continue;
    if (field.wire != Wire::kVarint) return Damaged();
    *bpe = field.value == kBpe;
    if (!*bpe) break;
  }
  return absl::OkStatus();
}

// NormalizerSpec, for text in (3) or out (5).
absl::Status CheckNormalizer(std::string_view message) {
  FieldReader reader(message);
  Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(&field)) return Damaged();
    if (field.number != 2) continue;
    if (field.wire != Wire::kBytes) return Damaged();
    if (!field.bytes.empty()) {
      return InvalidArgument(
          "tokenizer.model has a normalisation table; only identity is supported");
    }
  }
  return absl::OkStatus();
}

bool IsReserved(const ModelPiece& piece) {
  return piece.type == ModelPiece::Type::kUnknown || piece.type == ModelPiece::Type::kControl ||
         piece.type == ModelPiece::Type::kByte;
}

// Text becomes a piece by merging characters into pieces that are not reserved. A reserved piece
// could come out only if it were a single character or shared its text with another piece.
absl::Status CheckTexts(const std::vector<ModelPiece>& pieces) {
  std::unordered_set<std::string_view> texts;
  texts.reserve(pieces.size());
  size_t unknown = 0;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const ModelPiece& piece = pieces[id];
    if (!texts.insert(piece.text).second) {
      return InvalidArgument("tokenizer.model: the text of piece {} occurs twice", id);
    }
    if (IsReserved(piece) && NextUtf8(piece.text).length == piece.text.size()) {
      return InvalidArgument("tokenizer.model: reserved piece {} is a single character", id);
    }
    if (piece.type == ModelPiece::Type::kByte && BytePieceValue(piece.text) < 0) {
      return InvalidArgument("tokenizer.model: byte piece {} is not written <0xNN>", id);
    }
    if (piece.type == ModelPiece::Type::kUserDefined &&
        piece.text.find('\0') != std::string::npos) {
      return InvalidArgument("tokenizer.model: user-defined piece {} holds a NUL", id);
    }
    unknown += piece.type == ModelPiece::Type::kUnknown;
  }
  if (unknown != 1) {
    return InvalidArgument("tokenizer.model has {} unknown pieces, not one", unknown);
  }
  return absl::OkStatus();
}

absl::Status CheckUserDefined(const std::vector<ModelPiece>& pieces) {
  std::vector<std::string_view> symbols;
  for (const ModelPiece& piece : pieces) {
    if (piece.type == ModelPiece::Type::kUserDefined) symbols.push_back(piece.text);
  }
  std::sort(symbols.begin(), symbols.end());
  std::vector<std::string_view> open;  // each a beginning of the next
  for (std::string_view symbol : symbols) {
    while (!open.empty() && !symbol.starts_with(open.back())) open.pop_back();
    open.push_back(symbol);
    if (open.size() > kMaxNestedSymbols) {
      return InvalidArgument("tokenizer.model: more than {} user-defined pieces begin one another",
                             kMaxNestedSymbols);
    }
  }
  return absl::OkStatus();
}

}  // namespace

int BytePieceValue(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  int value = 0;
  for (char c : text.substr(3, 2)) {
    if (c >= '0' && c <= '9') {
      value = value * 16 + (c - '0');
    } else if (c >= 'A' && c <= 'F') {
      value = value * 16 + (c - 'A' + 10);
    } else {
      return -1;
    }
  }
  return value;
}

absl::StatusOr<std::vector<ModelPiece>> ReadModelFile(std::string_view model) {
  if (model.size() > limits::kMaxTokenizerBytes) {
    return InvalidArgument("tokenizer.model has {} bytes, limit {}", model.size(),
                           limits::kMaxTokenizerBytes);
  }
  std::vector<ModelPiece> pieces;
  size_t settings = 0;
  bool bpe = false;
  FieldReader reader(model);
  Field field;
  while (!reader.AtEnd()) {
    if (!reader.Next(&field)) return Damaged();
    if (field.number == 1) {
      if (field.wire != Wire::kBytes) return Damaged();
      if (pieces.size() == static_cast<size_t>(limits::kMaxVocabulary)) {
        return InvalidArgument("tokenizer.model has more than {} pieces", limits::kMaxVocabulary);
      }
      MONET_ASSIGN_OR_RETURN(ModelPiece piece, ReadPiece(field.bytes, pieces.size()));
      pieces.push_back(piece);
      continue;
    }
    settings += field.bytes.size() + 2;
    if (settings > kMaxSettingsBytes) {
      return InvalidArgument("tokenizer.model has more than {} bytes of settings",
                             kMaxSettingsBytes);
    }
    if (field.number >= 2 && field.number <= 5 && field.wire != Wire::kBytes) return Damaged();
    if (field.number == 2) MONET_RETURN_IF_ERROR(CheckTrainer(field.bytes, &bpe));
    if (field.number == 3 || field.number == 5) MONET_RETURN_IF_ERROR(CheckNormalizer(field.bytes));
  }
  if (pieces.empty()) return InvalidArgument("tokenizer.model has no pieces");
  if (!bpe)
    return InvalidArgument("tokenizer.model is not a BPE model; no other kind is supported");
  MONET_RETURN_IF_ERROR(CheckTexts(pieces));
  MONET_RETURN_IF_ERROR(CheckUserDefined(pieces));
  return pieces;
}

bool RemovesWhitespace(std::string_view model) {
  bool removes = true;  // the format's default
  FieldReader reader(model);
  Field field;
  while (reader.Next(&field)) {
    if (field.number != 3 || field.wire != Wire::kBytes) continue;
    FieldReader settings(field.bytes);
    Field setting;
    while (settings.Next(&setting)) {
      if (setting.number == 4 && setting.wire == Wire::kVarint) removes = setting.value != 0;
    }
  }
  return removes;
}

}  // namespace monet
