// Turns the bytes of generated tokens into text that can be sent at once: whole UTF-8 characters
// only, and nothing that may still become a stop string. One per sequence; not thread-safe.
//
// What comes out does not depend on how the bytes were cut into tokens: it is the text of all bytes
// (bytes that are not UTF-8 give U+FFFD, one for each maximal subpart), up to the first stop
// string. The first is the one that begins earliest; of those that begin at one place, the
// shortest. So a stop string that is complete waits while one that began before it may still become
// complete. Holds less than the longest stop string and one character.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace monet {

class StreamDecoder {
 public:
  // REQUIRES: stop strings are UTF-8 and not empty (empty ones are ignored).
  explicit StreamDecoder(std::vector<std::string> stop_strings);

  // Adds a token's bytes and returns the text that is now certain. When a stop string is complete,
  // the text before its first occurrence is returned, stopped() becomes true, and everything after
  // is dropped. With may_stop false, characters that are complete now are not searched for stop
  // strings; REQUIRES: no earlier Push had it true.
  std::string Push(std::string_view bytes, bool may_stop = true);

  // The end of the sequence: what was held back. An incomplete character gives U+FFFD. Ask
  // stopped() afterwards: a stop string that waited for an earlier one counts now.
  std::string Flush();

  bool stopped() const { return stopped_; }
  // The stop string that ended the text; empty unless stopped().
  const std::string& matched() const { return matched_; }

 private:
  // Moves whole characters from incomplete_ to held_.
  void Decode(bool at_end);
  // Takes from held_ what is certain.
  std::string Release(bool at_end);

  std::vector<std::string> stop_strings_;  // shortest first
  std::string incomplete_;                 // bytes of an unfinished UTF-8 character
  std::string held_;                       // text that may be the beginning of a stop string
  std::string matched_;
  bool stopped_ = false;
};

}  // namespace monet
