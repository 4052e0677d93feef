// What a tokenizer.model says, read without SentencePiece and checked before SentencePiece sees it:
// the library trusts its file (it walks tables in it without bounds and reserves what it names).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace monet {

// One entry of the vocabulary. Views point into the bytes that were parsed.
struct ModelPiece {
  // Numbers of sentencepiece_model.proto.
  enum class Type {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };

  std::string_view text;
  Type type = Type::kNormal;
};

// The byte that a byte piece, "<0x00>" to "<0xFF>", stands for; -1 for any other text.
int BytePieceValue(std::string_view text);

// The pieces of a serialized sentencepiece.ModelProto, in the order of their ids. Accepts BPE
// models without a normalisation table, as LLaMA's are. Errors: INVALID_ARGUMENT for damaged bytes,
// another kind of model, texts that could turn user input into a control token, or more than
// limits::kMaxVocabulary pieces.
absl::StatusOr<std::vector<ModelPiece>> ReadModelFile(std::string_view model);

// Whether spaces at the ends and doubled ones are dropped from a text before it is cut into pieces.
// REQUIRES: ReadModelFile accepts the model.
bool RemovesWhitespace(std::string_view model);

}  // namespace monet
