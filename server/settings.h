// The table of monet-server's settings: one row gives a flag, a key of the YAML file, its text in
// --help and its row in docs/limits.md. A new setting is a member of ServerOptions with its
// default, a row in settings.cc and a word in docs/compatibility.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "server/options.h"

namespace monet::server {

struct Setting {
  enum class Kind : uint8_t { kSwitch, kInteger, kText };

  std::string key;  // of the YAML file; FlagOf has the flag
  Kind kind = Kind::kText;
  std::string placeholder;  // for the value in --help; empty: a switch
  std::string description;  // sentences, without range and default
  int64_t min = 0;          // kInteger: both ends are allowed
  int64_t max = 0;
  std::string unit;          // kInteger: in the plural, empty for a count
  std::string default_text;  // the value of ServerOptions, or words; empty: required or unset
  // Checks the text and stores it. Errors: INVALID_ARGUMENT that continues the setting's name
  // ("must be an integer from 1 to 1024").
  std::function<absl::Status(ServerOptions*, std::string_view text)> set;
};

// In the order of --help; built once.
const std::vector<Setting>& Settings();

std::string FlagOf(const Setting& setting);     // "--kv-tokens"
std::string RangeText(const Setting& setting);  // "1 to 60000 milliseconds"; empty: not a number
std::string HelpText(const Setting& setting);   // description, range, default

// What a row is made of. `member` holds the default; `default_words` says it where that value
// cannot (0 for "from the machine").
namespace setting {

struct Range {
  int64_t min;
  int64_t max;
};
using TextCheck = absl::Status (*)(std::string_view text);

// true or false; the flag alone means true.
Setting Switch(std::string key, bool ServerOptions::*member, std::string description);
Setting Integer(std::string key, std::string unit, Range range, int32_t ServerOptions::*member,
                std::string description, std::string default_words = "");
Setting Integer(std::string key, std::string unit, Range range, int64_t ServerOptions::*member,
                std::string description, std::string default_words = "");
Setting Milliseconds(std::string key, Range range, std::chrono::milliseconds ServerOptions::*member,
                     std::string description);
Setting Seconds(std::string key, Range range, std::chrono::milliseconds ServerOptions::*member,
                std::string description);
// 1 to 4096 bytes.
Setting Path(std::string key, std::string placeholder, std::filesystem::path ServerOptions::*member,
             std::string description);
// 1 to 4096 bytes that `check` accepts.
Setting Text(std::string key, std::string placeholder, std::string ServerOptions::*member,
             std::string description, std::string default_words = "", TextCheck check = nullptr);
Setting OneOf(std::string key, std::string placeholder, std::vector<std::string> words,
              std::string ServerOptions::*member, std::string description);

}  // namespace setting
}  // namespace monet::server
