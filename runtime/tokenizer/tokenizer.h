// Text to token ids and back: SentencePiece behind a class of our own, so that its headers stay in
// one translation unit, and a table of each token's bytes made at load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"
#include "runtime/base/utf8.h"

namespace monet {

// Immutable and thread-safe after loading.
class Tokenizer {
 public:
  // Bytes of a tokenizer.model. Errors: INVALID_ARGUMENT for anything that is not a usable model.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromBytes(std::string_view model);
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromFile(const std::filesystem::path& path);
  ~Tokenizer();

  int32_t vocabulary() const { return static_cast<int32_t>(bytes_.size()); }
  int32_t bos_id() const { return bos_id_; }  // -1 when there is none
  int32_t eos_id() const { return eos_id_; }  // -1 when there is none

  // Ids of the text, without <s>. Never yields a control token, whatever the text says.
  // Errors: INVALID_ARGUMENT when the text is not UTF-8 or longer than 64 MiB (64 KiB for a model
  // without byte pieces).
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const;

  // A text of more bytes gives more than `tokens` ids, known without tokenising it: no piece stands
  // for more bytes than the longest. SIZE_MAX for models that drop spaces or join unknown
  // characters, where no length says so. REQUIRES: tokens >= 0.
  size_t MaxTextBytes(int32_t tokens) const;

  // As SentencePiece decodes: the dummy prefix space is dropped, control tokens and ids
  // outside the vocabulary give nothing, bytes that are not UTF-8 give U+FFFD each.
  std::string Decode(const std::vector<int32_t>& ids) const;

  // The bytes that a token adds to running text (▁ is a space, <0xNN> that byte, control tokens
  // nothing, the unknown token its surface). REQUIRES: 0 <= id < vocabulary().
  const std::string& TokenBytes(int32_t id) const { return bytes_[id]; }
  bool IsControl(int32_t id) const { return control_[id]; }

 private:
  struct Impl;
  Tokenizer();

  std::unique_ptr<Impl> impl_;
  std::vector<std::string> bytes_;
  std::vector<bool> control_;
  int32_t bos_id_ = -1;
  int32_t eos_id_ = -1;
};

}  // namespace monet
