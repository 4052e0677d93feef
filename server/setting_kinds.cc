// The kinds of settings: how a value is read, checked and shown.
#include <algorithm>
#include <charconv>
#include <utility>

#include "runtime/limits.h"
#include "server/settings.h"

namespace monet::server {
namespace {

absl::StatusOr<int64_t> ParseInteger(std::string_view text, setting::Range range) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < range.min ||
      value > range.max) {
    return InvalidArgument("must be an integer from {} to {}, is \"{}\"", range.min, range.max,
                           text);
  }
  return value;
}

absl::Status CheckText(std::string_view text) {
  if (text.empty()) return InvalidArgument("is empty");
  if (text.size() > limits::kMaxSettingBytes) {
    return InvalidArgument("has {} bytes, limit {}", text.size(), limits::kMaxSettingBytes);
  }
  return absl::OkStatus();
}

std::string Placeholder(std::string_view unit) {
  if (unit.empty()) return "N";
  std::string upper(unit);
  for (char& c : upper) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return upper;
}

Setting MakeInteger(std::string key, std::string unit, setting::Range range,
                    std::string description, std::string default_text) {
  Setting row;
  row.key = std::move(key);
  row.kind = Setting::Kind::kInteger;
  row.placeholder = Placeholder(unit);
  row.description = std::move(description);
  row.min = range.min;
  row.max = range.max;
  row.unit = std::move(unit);
  row.default_text = std::move(default_text);
  return row;
}

template <typename T>
Setting IntegerOf(std::string key, std::string unit, setting::Range range, T ServerOptions::*member,
                  std::string description, std::string default_words) {
  if (default_words.empty()) default_words = std::to_string(ServerOptions{}.*member);
  Setting row = MakeInteger(std::move(key), std::move(unit), range, std::move(description),
                            std::move(default_words));
  row.set = [range, member](ServerOptions* options, std::string_view text) -> absl::Status {
    MONET_ASSIGN_OR_RETURN(const int64_t value, ParseInteger(text, range));
    options->*member = static_cast<T>(value);
    return absl::OkStatus();
  };
  return row;
}

template <typename Unit>
Setting Duration(std::string key, std::string unit, setting::Range range,
                 std::chrono::milliseconds ServerOptions::*member, std::string description) {
  const auto standard = std::chrono::duration_cast<Unit>(ServerOptions{}.*member).count();
  Setting row = MakeInteger(std::move(key), std::move(unit), range, std::move(description),
                            std::to_string(standard));
  row.set = [range, member](ServerOptions* options, std::string_view text) -> absl::Status {
    MONET_ASSIGN_OR_RETURN(const int64_t value, ParseInteger(text, range));
    options->*member = Unit(value);
    return absl::OkStatus();
  };
  return row;
}

Setting MakeText(std::string key, std::string placeholder, std::string description,
                 std::string default_text) {
  Setting row;
  row.key = std::move(key);
  row.placeholder = std::move(placeholder);
  row.description = std::move(description);
  row.default_text = std::move(default_text);
  return row;
}

}  // namespace

namespace setting {

Setting Switch(std::string key, bool ServerOptions::*member, std::string description) {
  Setting row = MakeText(std::move(key), "", std::move(description),
                         ServerOptions{}.*member ? "true" : "false");
  row.kind = Setting::Kind::kSwitch;
  row.set = [member](ServerOptions* options, std::string_view text) -> absl::Status {
    if (text != "true" && text != "false") return InvalidArgument("must be true or false");
    options->*member = text == "true";
    return absl::OkStatus();
  };
  return row;
}

Setting Integer(std::string key, std::string unit, Range range, int32_t ServerOptions::*member,
                std::string description, std::string default_words) {
  return IntegerOf(std::move(key), std::move(unit), range, member, std::move(description),
                   std::move(default_words));
}

Setting Integer(std::string key, std::string unit, Range range, int64_t ServerOptions::*member,
                std::string description, std::string default_words) {
  return IntegerOf(std::move(key), std::move(unit), range, member, std::move(description),
                   std::move(default_words));
}

Setting Milliseconds(std::string key, Range range, std::chrono::milliseconds ServerOptions::*member,
                     std::string description) {
  return Duration<std::chrono::milliseconds>(std::move(key), "milliseconds", range, member,
                                             std::move(description));
}

Setting Seconds(std::string key, Range range, std::chrono::milliseconds ServerOptions::*member,
                std::string description) {
  return Duration<std::chrono::seconds>(std::move(key), "seconds", range, member,
                                        std::move(description));
}

Setting Path(std::string key, std::string placeholder, std::filesystem::path ServerOptions::*member,
             std::string description) {
  Setting row = MakeText(std::move(key), std::move(placeholder), std::move(description), "");
  row.set = [member](ServerOptions* options, std::string_view text) -> absl::Status {
    MONET_RETURN_IF_ERROR(CheckText(text));
    options->*member = text;
    return absl::OkStatus();
  };
  return row;
}

Setting Text(std::string key, std::string placeholder, std::string ServerOptions::*member,
             std::string description, std::string default_words, TextCheck check) {
  if (default_words.empty()) default_words = ServerOptions{}.*member;
  Setting row = MakeText(std::move(key), std::move(placeholder), std::move(description),
                         std::move(default_words));
  row.set = [member, check](ServerOptions* options, std::string_view text) -> absl::Status {
    MONET_RETURN_IF_ERROR(CheckText(text));
    if (check != nullptr) MONET_RETURN_IF_ERROR(check(text));
    options->*member = text;
    return absl::OkStatus();
  };
  return row;
}

Setting OneOf(std::string key, std::string placeholder, std::vector<std::string> words,
              std::string ServerOptions::*member, std::string description) {
  Setting row = MakeText(std::move(key), std::move(placeholder), std::move(description),
                         ServerOptions{}.*member);
  row.set = [member, words = std::move(words)](ServerOptions* options,
                                               std::string_view text) -> absl::Status {
    if (std::find(words.begin(), words.end(), text) == words.end()) {
      return InvalidArgument("must be one of {}", fmt::join(words, ", "));
    }
    options->*member = text;
    return absl::OkStatus();
  };
  return row;
}

}  // namespace setting

std::string FlagOf(const Setting& setting) {
  std::string flag = "--" + setting.key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string RangeText(const Setting& setting) {
  if (setting.kind != Setting::Kind::kInteger) return "";
  std::string text = fmt::format("{} to {}", setting.min, setting.max);
  if (!setting.unit.empty()) text += fmt::format(" {}", setting.unit);
  return text;
}

std::string HelpText(const Setting& setting) {
  std::string text = setting.description;
  if (setting.kind == Setting::Kind::kInteger) text += fmt::format(" {}.", RangeText(setting));
  if (!setting.default_text.empty()) text += fmt::format(" Default: {}.", setting.default_text);
  return text;
}

}  // namespace monet::server
