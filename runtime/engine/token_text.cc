#include "runtime/engine/token_text.h"

#include "runtime/tokenizer/tokenizer.h"

namespace monet {

TokenText TextOf(const Tokenizer* tokenizer) {
  return {.bytes = [tokenizer](int32_t id) -> std::string_view {
            if (id >= tokenizer->vocabulary()) return {};
            return tokenizer->TokenBytes(id);
          },
          .eos_id = tokenizer->eos_id()};
}

}  // namespace monet
