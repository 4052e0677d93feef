// SentencePiece behind plain types. Its header declares a string_view in namespace absl that
// Debian's Abseil declares too, so it is included in sentencepiece_adapter.cc alone, and that file
// includes nothing of Abseil. Only tokenizer.cc uses this.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace monet {

// Immutable and thread-safe after loading. Throws nothing and prints nothing.
class SentencePieceAdapter {
 public:
  // Null when SentencePiece refuses the model; `error` then says why.
  // REQUIRES: ReadModelFile accepts the model.
  static std::unique_ptr<SentencePieceAdapter> Load(std::string_view model, std::string* error);
  ~SentencePieceAdapter();

  int32_t vocabulary() const;
  int32_t unk_id() const;
  int32_t bos_id() const;  // -1 when there is none
  int32_t eos_id() const;  // -1 when there is none

  // False on an internal error. Ids must lie in [0, vocabulary()).
  bool Encode(std::string_view text, std::vector<int32_t>* ids) const;
  bool Decode(const std::vector<int32_t>& ids, std::string* text) const;

 private:
  struct Impl;
  SentencePieceAdapter();

  std::unique_ptr<Impl> impl_;
};

}  // namespace monet
