// UTF-8 as Unicode defines it (Table 3-7): no surrogates, no overlong forms, nothing above
// U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace monet {

// U+FFFD, what stands for bytes that are not UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

struct Utf8Unit {
  enum class Kind {
    kCharacter,   // one well-formed character
    kIncomplete,  // all of the text; more bytes may make a character of it
    kInvalid,     // a maximal subpart: bytes that together give one U+FFFD (WHATWG, W3C)
  };
  Kind kind = Kind::kInvalid;
  size_t length = 0;  // bytes, at least 1
};

// What the text begins with. REQUIRES: text is not empty.
Utf8Unit NextUtf8(std::string_view text);

bool IsUtf8(std::string_view text);

}  // namespace monet
