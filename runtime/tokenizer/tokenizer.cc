#include "runtime/tokenizer/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <system_error>

#include "runtime/base/utf8.h"
#include "runtime/limits.h"
#include "runtime/tokenizer/model_file.h"
#include "runtime/tokenizer/sentencepiece_adapter.h"

namespace monet {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // ▁
// SentencePiece counts characters of the escaped text (at most three times as long) in an int.
constexpr size_t kMaxTextBytes = 64 << 20;
// Without byte pieces it joins a run of unknown characters one by one, in quadratic time.
constexpr size_t kMaxTextBytesWithoutBytePieces = 64 << 10;

std::string SpacesOf(std::string_view piece) {
  std::string text;
  while (!piece.empty()) {
    if (piece.starts_with(kSpaceSymbol)) {
      text += ' ';
      piece.remove_prefix(kSpaceSymbol.size());
    } else {
      text += piece[0];
      piece.remove_prefix(1);
    }
  }
  return text;
}

}  // namespace

struct Tokenizer::Impl {
  std::unique_ptr<SentencePieceAdapter> sentencepiece;
  size_t max_text_bytes = kMaxTextBytes;
  size_t longest_piece_bytes = 0;  // of text that becomes one id; 0: there is no bound
};

Tokenizer::Tokenizer() : impl_(std::make_unique<Impl>()) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromBytes(std::string_view model) {
  MONET_ASSIGN_OR_RETURN(const std::vector<ModelPiece> pieces, ReadModelFile(model));
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  std::string error;
  tokenizer->impl_->sentencepiece = SentencePieceAdapter::Load(model, &error);
  if (tokenizer->impl_->sentencepiece == nullptr) {
    return InvalidArgument("tokenizer.model: SentencePiece refuses it: {}", error);
  }
  const SentencePieceAdapter& sentencepiece = *tokenizer->impl_->sentencepiece;
  if (sentencepiece.vocabulary() != static_cast<int32_t>(pieces.size())) {
    return InvalidArgument("tokenizer.model: SentencePiece finds {} pieces, not {}",
                           sentencepiece.vocabulary(), pieces.size());
  }
  std::string unknown;
  if (!sentencepiece.Decode({sentencepiece.unk_id()}, &unknown) || !IsUtf8(unknown)) {
    return InvalidArgument("tokenizer.model: the surface of the unknown piece is not UTF-8");
  }

  bool byte_pieces = false;
  size_t longest = 0;
  for (const ModelPiece& piece : pieces) {
    // As written, where a space is the three bytes of its symbol: a text may hold the symbol
    // itself.
    longest = std::max(longest, piece.text.size());
    const bool control = piece.type == ModelPiece::Type::kControl;
    tokenizer->control_.push_back(control);
    if (control) {
      tokenizer->bytes_.emplace_back();
    } else if (piece.type == ModelPiece::Type::kUnknown) {
      tokenizer->bytes_.push_back(unknown);
    } else if (piece.type == ModelPiece::Type::kByte) {
      tokenizer->bytes_.emplace_back(1, static_cast<char>(BytePieceValue(piece.text)));
      byte_pieces = true;
    } else {
      tokenizer->bytes_.push_back(SpacesOf(piece.text));
    }
  }
  if (!byte_pieces) tokenizer->impl_->max_text_bytes = kMaxTextBytesWithoutBytePieces;
  if (byte_pieces && !RemovesWhitespace(model)) tokenizer->impl_->longest_piece_bytes = longest;
  tokenizer->bos_id_ = sentencepiece.bos_id();
  tokenizer->eos_id_ = sentencepiece.eos_id();
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromFile(const std::filesystem::path& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return InvalidArgument("{}: {}", path.string(), error.message());
  if (size > limits::kMaxTokenizerBytes) {
    return InvalidArgument("{} has {} bytes, limit {}", path.string(), size,
                           limits::kMaxTokenizerBytes);
  }
  std::ifstream file(path, std::ios::binary);
  std::string model(size, '\0');
  if (!file.read(model.data(), static_cast<std::streamsize>(size))) {
    return InvalidArgument("{} cannot be read", path.string());
  }
  return FromBytes(model);
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text) const {
  if (text.size() > impl_->max_text_bytes) {
    return InvalidArgument("text has {} bytes, limit {}", text.size(), impl_->max_text_bytes);
  }
  if (!IsUtf8(text)) return InvalidArgument("text is not UTF-8");
  std::vector<int32_t> ids;
  if (!impl_->sentencepiece->Encode(text, &ids)) {
    return Error(absl::StatusCode::kInternal, "the tokenizer failed");
  }
  for (int32_t id : ids) {
    // ReadModelFile refuses the models that could do this; a control token from user text would be
    // a hole, so it is checked where it would appear.
    if (control_[id]) return Error(absl::StatusCode::kInternal, "text gave a control token");
  }
  return ids;
}

size_t Tokenizer::MaxTextBytes(int32_t tokens) const {
  const size_t longest = impl_->longest_piece_bytes;
  return longest == 0 ? std::numeric_limits<size_t>::max() : static_cast<size_t>(tokens) * longest;
}

std::string Tokenizer::Decode(const std::vector<int32_t>& ids) const {
  std::vector<int32_t> known;
  known.reserve(ids.size());
  for (int32_t id : ids) {
    if (id >= 0 && id < vocabulary()) known.push_back(id);
  }
  std::string text;
  if (!impl_->sentencepiece->Decode(known, &text)) return "";
  return text;
}

}  // namespace monet
