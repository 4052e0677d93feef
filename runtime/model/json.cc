#include "runtime/model/json.h"

#include <string>
#include <utility>
#include <vector>

namespace monet {
namespace {

using Json = nlohmann::json;

// Builds the tree while it checks what nlohmann's own parser lets pass: duplicate keys, depth and
// the number of values. Returning false from any event ends the parse.
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit StrictBuilder(const JsonLimits& limits) : limits_(limits) {}

  Json TakeRoot() { return std::move(root_); }
  const std::string& error() const { return error_; }

  bool null() override { return Add(nullptr) != nullptr; }
  bool boolean(bool value) override { return Add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value) != nullptr;
  }
  bool string(string_t& value) override { return Add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return Fail("binary value"); }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    if (open_.back()->contains(name)) return Fail("duplicate key \"" + Printable(name) + "\"");
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // 406: a number that no double holds; the rest is syntax. nlohmann's text quotes the input.
    const char* kind = error.id == 406 ? "number out of range" : "not valid JSON";
    return Fail(fmt::format("{} at byte {}", kind, position));
  }

 private:
  bool Fail(std::string why) {
    if (error_.empty()) error_ = std::move(why);
    return false;
  }

  Json* Add(Json value) {
    if (++values_ > limits_.max_values) {
      Fail(fmt::format("more than {} values", limits_.max_values));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json* parent = open_.back();
    if (parent->is_array()) {
      parent->push_back(std::move(value));
      return &parent->back();
    }
    return &((*parent)[key_] = std::move(value));
  }

  bool Open(Json container) {
    if (open_.size() >= limits_.max_depth) {
      return Fail(fmt::format("nested deeper than {}", limits_.max_depth));
    }
    Json* added = Add(std::move(container));
    if (added == nullptr) return false;
    // Pointers to open containers stay valid: a parent takes no new element while a child is open.
    open_.push_back(added);
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const JsonLimits limits_;
  Json root_;
  std::vector<Json*> open_;
  std::string key_;
  size_t values_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJsonObject(std::string_view text, std::string_view what,
                                     const JsonLimits& limits) {
  StrictBuilder builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return InvalidArgument("{}: {}", what, builder.error());
  }
  Json root = builder.TakeRoot();
  if (!root.is_object()) return InvalidArgument("{}: not a JSON object", what);
  return root;
}

std::string Printable(std::string_view text) {
  constexpr size_t kMaxBytes = 64;
  std::string out;
  for (char c : text.substr(0, kMaxBytes)) out += c >= 0x20 && c < 0x7f ? c : '?';
  if (text.size() > kMaxBytes) out += "...";
  return out;
}

}  // namespace monet
