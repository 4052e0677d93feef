#include "runtime/base/strict_yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <set>
#include <sstream>
#include <utility>

#include "runtime/base/utf8.h"

namespace monet {
namespace {

constexpr size_t kMaxDepth = 16;
constexpr size_t kMaxKeyBytes = 256;

// Leaves yaml-cpp's parser; never leaves this file.
struct Refused {
  absl::Status status;
};

[[noreturn]] void Refuse(int32_t line, std::string_view message) {
  throw Refused{InvalidArgument("line {}: {}", line, message)};
}

// A key from the file, fit for an error message.
std::string Shown(std::string_view text) {
  std::string shown(text.substr(0, 64));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F) c = '?';
  }
  return shown;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode Take() && { return std::move(root_); }
  bool done() const { return done_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (done_) Refuse(mark.line + 1, "a second document");
  }
  void OnDocumentEnd() override { done_ = true; }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    CheckPlain(mark, "", anchor);
    if (ExpectsKey()) Refuse(mark.line + 1, "a key is empty");
    Add(MakeNode(YamlNode::Kind::kNull, mark));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Refuse(mark.line + 1, "aliases are not supported");
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckPlain(mark, tag, anchor);
    if (ExpectsKey()) {
      TakeKey(mark, value);
      return;
    }
    YamlNode node = MakeNode(YamlNode::Kind::kScalar, mark);
    node.scalar = value;
    node.quoted = tag == "!";
    Add(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  // A sequence or map that is still open.
  struct Level {
    YamlNode node;
    std::set<std::string, std::less<>> keys;
    std::string key;
    int32_t key_line = 0;
    bool has_key = false;
  };

  static YamlNode MakeNode(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    return node;
  }

  // "?" and "!" are what yaml-cpp reports for plain and quoted nodes without a tag.
  static void CheckPlain(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (anchor != 0) Refuse(mark.line + 1, "anchors are not supported");
    if (!tag.empty() && tag != "?" && tag != "!") Refuse(mark.line + 1, "tags are not supported");
  }

  bool ExpectsKey() const {
    return !levels_.empty() && levels_.back().node.kind == YamlNode::Kind::kMap &&
           !levels_.back().has_key;
  }

  void TakeKey(const YAML::Mark& mark, const std::string& key) {
    if (key.empty() || key.size() > kMaxKeyBytes) {
      Refuse(mark.line + 1,
             fmt::format("a key has {} bytes, not 1 to {}", key.size(), kMaxKeyBytes));
    }
    if (key == "<<") Refuse(mark.line + 1, "merge keys are not supported");
    Level& level = levels_.back();
    if (!level.keys.insert(key).second) {
      Refuse(mark.line + 1, fmt::format("duplicate key {}", Shown(key)));
    }
    level.key = key;
    level.key_line = mark.line + 1;
    level.has_key = true;
  }

  void Open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    CheckPlain(mark, tag, anchor);
    if (ExpectsKey()) Refuse(mark.line + 1, "a key must be a scalar");
    if (levels_.size() == kMaxDepth) {
      Refuse(mark.line + 1, fmt::format("nested deeper than {} levels", kMaxDepth));
    }
    levels_.emplace_back().node = MakeNode(kind, mark);
  }

  void Close() {
    YamlNode node = std::move(levels_.back().node);
    levels_.pop_back();
    Add(std::move(node));
  }

  void Add(YamlNode node) {
    if (levels_.empty()) {
      root_ = std::move(node);
      return;
    }
    Level& level = levels_.back();
    if (level.has_key) {
      node.key = std::move(level.key);
      // A block begins below its key, and a missing value is noticed at what follows it.
      if (node.kind != YamlNode::Kind::kScalar) node.line = level.key_line;
    }
    level.has_key = false;
    level.node.members.push_back(std::move(node));
  }

  std::vector<Level> levels_;
  YamlNode root_;
  bool done_ = false;
};

// yaml-cpp guesses the encoding from the first bytes and stops at a NUL; neither is left to it.
absl::Status CheckCharacters(std::string_view text) {
  if (!IsUtf8(text)) return InvalidArgument("not UTF-8");
  if (text.starts_with("\xEF\xBB\xBF"))
    return InvalidArgument("line 1: starts with a byte order mark");
  int32_t line = 1;
  bool line_start = true;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t' && c != '\r') || byte == 0x7F) {
      return InvalidArgument("line {}: a control character", line);
    }
    if (line_start && c == '%')
      return InvalidArgument("line {}: directives are not supported", line);
    line_start = c == '\n';
    line += line_start;
  }
  return absl::OkStatus();
}

absl::StatusOr<YamlNode> Build(std::string_view text) {
  // yaml-cpp takes a quoted scalar that the file's end cuts off for complete; a document's end
  // inside one is an error to it.
  std::istringstream stream{std::string(text) + "\n...\n"};
  TreeBuilder builder;
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refused& refused) {
    return refused.status;
  } catch (const YAML::Exception& error) {
    return InvalidArgument("line {}: {}", error.mark.line + 1, Shown(error.msg));
  } catch (const std::exception&) {
    return InvalidArgument("cannot be parsed as YAML");
  }
  if (!builder.done()) return InvalidArgument("line 1: no document");
  return std::move(builder).Take();
}

bool IsDecimal(std::string_view text) {
  if (text == "0") return true;
  if (text.starts_with('-')) text.remove_prefix(1);
  if (text.empty() || text[0] == '0') return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// What YAML 1.2 would take for null, a bool or a number, written plainly.
bool LooksTyped(std::string_view text) {
  for (std::string_view word : {"", "~", "null", "Null", "NULL", "true", "True", "TRUE", "false",
                                "False", "FALSE", ".nan", ".NaN", ".NAN"}) {
    if (text == word) return true;
  }
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  if (text == ".inf" || text == ".Inf" || text == ".INF") return true;
  if (text.starts_with("0x") || text.starts_with("0o")) return true;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error != std::errc::invalid_argument && end == text.data() + text.size() &&
         !text.empty() && (text[0] == '.' || (text[0] >= '0' && text[0] <= '9'));
}

}  // namespace

absl::StatusOr<YamlNode> ParseStrictYaml(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return InvalidArgument("{} bytes, limit {}", text.size(), max_bytes);
  }
  MONET_RETURN_IF_ERROR(CheckCharacters(text));
  MONET_ASSIGN_OR_RETURN(YamlNode root, Build(text));
  if (root.kind != YamlNode::Kind::kMap) return InvalidArgument("line 1: the top level is no map");
  return root;
}

YamlView YamlView::operator[](std::string_view key) const {
  const std::string path = path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  if (present() && node_->kind == YamlNode::Kind::kMap) {
    for (const YamlNode& member : node_->members) {
      if (member.key == key) return YamlView(&member, path, member.line);
    }
  }
  return YamlView(nullptr, path, line_);
}

absl::Status YamlView::CheckMap() const {
  if (!present()) return Fail("is missing");
  if (node_->kind != YamlNode::Kind::kMap) return Fail("must be a map");
  return absl::OkStatus();
}

absl::Status YamlView::CheckKeys(std::initializer_list<std::string_view> required,
                                 std::initializer_list<std::string_view> optional) const {
  MONET_RETURN_IF_ERROR(CheckMap());
  const auto contains = [](std::initializer_list<std::string_view> keys, std::string_view key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  for (const YamlNode& member : node_->members) {
    if (!contains(required, member.key) && !contains(optional, member.key)) {
      return (*this)[member.key].Fail("unknown key");
    }
  }
  for (std::string_view key : required) {
    if (!(*this)[key].present()) return (*this)[key].Fail("is missing");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<YamlView>> YamlView::Sequence(size_t max) const {
  if (!present()) return Fail("is missing");
  if (node_->kind != YamlNode::Kind::kSequence) return Fail("must be a list");
  if (node_->members.size() > max) {
    return Fail(fmt::format("has {} entries, limit {}", node_->members.size(), max));
  }
  std::vector<YamlView> views;
  views.reserve(node_->members.size());
  for (size_t i = 0; i < node_->members.size(); ++i) {
    const YamlNode& member = node_->members[i];
    views.push_back(YamlView(&member, fmt::format("{}[{}]", path_, i), member.line));
  }
  return views;
}

absl::StatusOr<int64_t> YamlView::Integer(int64_t min, int64_t max) const {
  if (!present()) return Fail("is missing");
  const std::string& text = node_->scalar;
  int64_t value = 0;
  if (node_->kind == YamlNode::Kind::kScalar && !node_->quoted && IsDecimal(text) &&
      std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc() &&
      value >= min && value <= max) {
    return value;
  }
  return Fail(fmt::format("must be an integer from {} to {}", min, max));
}

absl::StatusOr<bool> YamlView::Bool() const {
  if (!present()) return Fail("is missing");
  if (node_->kind == YamlNode::Kind::kScalar && !node_->quoted) {
    if (node_->scalar == "true") return true;
    if (node_->scalar == "false") return false;
  }
  return Fail("must be true or false");
}

absl::StatusOr<std::string> YamlView::String(size_t max_bytes) const {
  MONET_ASSIGN_OR_RETURN(std::string text, AnyScalar(max_bytes));
  if (!node_->quoted && LooksTyped(text)) return Fail("must be a string (quote it)");
  return text;
}

absl::StatusOr<std::string> YamlView::AnyScalar(size_t max_bytes) const {
  if (!present()) return Fail("is missing");
  if (node_->kind != YamlNode::Kind::kScalar) return Fail("must be a string");
  if (node_->scalar.size() > max_bytes) {
    return Fail(fmt::format("has {} bytes, limit {}", node_->scalar.size(), max_bytes));
  }
  return node_->scalar;
}

absl::Status YamlView::Fail(std::string_view message) const {
  if (path_.empty()) return InvalidArgument("line {}: {}", line_, message);
  return InvalidArgument("{} (line {}): {}", Shown(path_), line_, message);
}

}  // namespace monet
