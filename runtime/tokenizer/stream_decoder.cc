#include "runtime/tokenizer/stream_decoder.h"

#include <algorithm>
#include <utility>

#include "runtime/base/utf8.h"

namespace monet {

StreamDecoder::StreamDecoder(std::vector<std::string> stop_strings)
    : stop_strings_(std::move(stop_strings)) {
  std::erase_if(stop_strings_, [](const std::string& stop) { return stop.empty(); });
  std::stable_sort(stop_strings_.begin(), stop_strings_.end(),
                   [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
}

std::string StreamDecoder::Push(std::string_view bytes, bool may_stop) {
  if (stopped_) return "";
  incomplete_ += bytes;
  Decode(/*at_end=*/false);
  if (!may_stop) return std::exchange(held_, std::string());
  return Release(/*at_end=*/false);
}

std::string StreamDecoder::Flush() {
  if (stopped_) return "";
  Decode(/*at_end=*/true);
  return Release(/*at_end=*/true);
}

void StreamDecoder::Decode(bool at_end) {
  std::string_view rest = incomplete_;
  while (!rest.empty()) {
    const Utf8Unit unit = NextUtf8(rest);
    if (unit.kind == Utf8Unit::Kind::kCharacter) {
      held_ += rest.substr(0, unit.length);
    } else if (unit.kind == Utf8Unit::Kind::kInvalid || at_end) {
      held_ += kReplacementCharacter;
    } else {
      break;
    }
    rest.remove_prefix(unit.length);
  }
  incomplete_.erase(0, incomplete_.size() - rest.size());
}

std::string StreamDecoder::Release(bool at_end) {
  size_t certain = 0;
  for (; certain < held_.size(); ++certain) {
    const std::string_view rest = std::string_view(held_).substr(certain);
    bool may_become = false;
    for (const std::string& stop : stop_strings_) {
      if (rest.starts_with(stop)) {
        matched_ = stop;
        stopped_ = true;
        break;
      }
      may_become = may_become || (!at_end && stop.starts_with(rest));
    }
    if (stopped_ || may_become) break;
  }
  std::string text = held_.substr(0, certain);
  held_.erase(0, stopped_ ? std::string::npos : certain);
  return text;
}

}  // namespace monet
