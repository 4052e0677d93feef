// A strict reader for the YAML files that people write (policies, tenants, configuration). yaml-cpp
// scans; this keeps what it says as a tree and refuses what it would let pass: duplicate keys, more
// than one document, anchors, aliases, merge keys, tags, deep nesting. Numbers are plain decimals.
//
//   MONET_ASSIGN_OR_RETURN(const YamlNode root, ParseStrictYaml(text, 1 << 20));
//   const YamlView view(root);
//   MONET_RETURN_IF_ERROR(view.CheckKeys({"name", "limits"}, {"description"}));
//   MONET_ASSIGN_OR_RETURN(const int64_t n, view["limits"]["concurrent"].Integer(1, 1024));
//
// Every error names the place: "limits.concurrent (line 7): must be an integer from 1 to 1024".
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace monet {

// A value with what hangs below it. Plain data.
struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };

  Kind kind = Kind::kNull;
  bool quoted = false;            // kScalar: in quotes or a block, so a string whatever it says
  int32_t line = 0;               // from 1
  std::string key;                // when it is the value of a key
  std::string scalar;             // kScalar
  std::vector<YamlNode> members;  // kSequence in order, kMap with unique keys in the file's order
};

// Errors: INVALID_ARGUMENT naming the line. Deeper than 16 levels, larger than max_bytes, not
// UTF-8, control characters, or a top level that is no map: refused.
absl::StatusOr<YamlNode> ParseStrictYaml(std::string_view text, size_t max_bytes);

// A node and the way to it. Cheap to copy; the tree must outlive it. A view of a missing key is
// valid: present() is false and reading a value from it is an error.
class YamlView {
 public:
  explicit YamlView(const YamlNode& root) : node_(&root), line_(root.line) {}

  bool present() const { return node_ != nullptr; }
  // Of the node, or of the map that lacks it; from 1.
  int32_t line() const { return line_; }

  // The value of a key; absent when this is no map or lacks the key.
  YamlView operator[](std::string_view key) const;

  // This must be a map, hold every key of `required`, and none beyond these and `optional`.
  absl::Status CheckKeys(std::initializer_list<std::string_view> required,
                         std::initializer_list<std::string_view> optional) const;
  absl::Status CheckMap() const;

  // The members of a sequence, at most `max` of them.
  absl::StatusOr<std::vector<YamlView>> Sequence(size_t max) const;
  // A decimal integer: no quotes, sign +, leading zeros, fraction, exponent or other base.
  absl::StatusOr<int64_t> Integer(int64_t min, int64_t max) const;
  // true or false.
  absl::StatusOr<bool> Bool() const;
  // A string of at most max_bytes bytes. What YAML reads as null, a bool or a number must be
  // quoted.
  absl::StatusOr<std::string> String(size_t max_bytes) const;
  // As String, but a plain scalar is a string whatever it says (hexadecimal digests).
  absl::StatusOr<std::string> AnyScalar(size_t max_bytes) const;

  // INVALID_ARGUMENT "path (line n): message".
  absl::Status Fail(std::string_view message) const;

 private:
  YamlView(const YamlNode* node, std::string path, int32_t line)
      : node_(node), path_(std::move(path)), line_(line) {}

  const YamlNode* node_;  // null when absent
  std::string path_;      // "experts.inline[0]"; empty at the top
  int32_t line_;          // of the node, or of the map that lacks it
};

}  // namespace monet
