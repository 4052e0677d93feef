// What the conversion of requests must know of the served model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/limits.h"
#include "runtime/policy/expert_mask.h"
#include "server/chat_template.h"

namespace monet::server {

struct ServedShape {
  std::string model_name;
  MaskShape mask;
  int32_t vocabulary = 0;  // V
  int32_t context = 0;     // tokens of prompt and completion together
  // A longer text cannot fit the context, whatever it says: unless it may be cut, it is refused
  // before it is tokenised.
  size_t max_text_bytes = limits::kMaxPromptBytes;
  ChatTemplate chat_template = ChatTemplate::kNone;
};

}  // namespace monet::server
