// The data of monetctl policy collect: documents with a label, or with a score.
//
//   DIR/LABEL/FILE                     every visible file of a label's folder is a document
//   FILE.jsonl: {"text": …, "label": …}   a line a document
//   FILE.jsonl: {"text": …, "score": …}   the label, if none is given, is "scored"
//
// Texts are taken as they are: UTF-8, nothing trimmed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"

namespace monet::cli {

struct LabelledDocument {
  std::string label;  // 1 to 63 letters, digits, '.', '-' and '_'
  std::string text;   // not empty
  double score = 0;
  Digest hash;  // SHA-256 of the text

  // Which of two halves it belongs to: by its content, so that nothing else matters.
  int32_t half() const { return hash.bytes[31] & 1; }
};

struct LabelledDocuments {
  std::vector<LabelledDocument> documents;  // by label, then hash; unique in these
  std::vector<std::string> labels;          // sorted, unique
  bool scored = false;                      // all have a score
  int64_t empty = 0;                        // texts left out for having nothing in them
  int64_t repeated = 0;                     // and for being there already, under the same label
};

inline constexpr size_t kMaxDataBytes = size_t{1} << 30;  // of all texts
inline constexpr size_t kMaxDocuments = 1 << 20;

// Errors: INVALID_ARGUMENT naming the file and the line.
absl::StatusOr<LabelledDocuments> ReadLabelledDocuments(const std::filesystem::path& path);

// For tests and the above: the lines of such a file.
absl::StatusOr<LabelledDocuments> ParseDocumentLines(std::string_view lines);

}  // namespace monet::cli
