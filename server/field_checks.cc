#include "server/field_checks.h"

#include "runtime/base/reasons.h"
#include "runtime/base/utf8.h"
#include "runtime/limits.h"

namespace monet::server {

std::string Shown(const std::string& text) {
  std::string shown;
  for (char c : text.substr(0, 64)) shown += c >= ' ' && c < 0x7f ? c : '?';
  return text.size() > 64 ? shown + "..." : shown;
}

absl::Status CheckTokenId(const char* field, int index, int32_t id, int32_t vocabulary) {
  if (id < 0 || id >= vocabulary) {
    return InvalidField("{}[{}] is {}, range 0 to {}", field, index, id, vocabulary - 1);
  }
  return absl::OkStatus();
}

absl::Status CheckText(const std::string& field, const std::string& text) {
  if (text.size() > limits::kMaxPromptBytes) {
    return InvalidField("{} is {} bytes, limit {}", field, text.size(), limits::kMaxPromptBytes);
  }
  if (!IsUtf8(text)) return InvalidField("{} is not valid UTF-8", field);
  return absl::OkStatus();
}

}  // namespace monet::server
