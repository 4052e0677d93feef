// Turns the bytes of generated tokens into text that can be sent at once: whole UTF-8 characters
// only, and nothing that may still become a stop string. One per sequence; not thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace monet {

class StreamDecoder {
 public:
  // Stop strings must not be empty.
  explicit StreamDecoder(std::vector<std::string> stop_strings);

  // Adds a token's bytes and returns the text that is now certain. When a stop string is complete,
  // the text before its first occurrence is returned, stopped() becomes true, and everything after
  // is dropped. Bytes that can never become UTF-8 give U+FFFD.
  std::string Push(std::string_view bytes);

  // The end of the sequence: what was held back. An incomplete character gives U+FFFD.
  std::string Flush();

  bool stopped() const { return stopped_; }
  // The stop string that ended the text; empty unless stopped().
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stop_strings_;
  std::string incomplete_;  // bytes of an unfinished UTF-8 character
  std::string held_;        // text that may be the beginning of a stop string
  std::string matched_;
  bool stopped_ = false;
};

}  // namespace monet
