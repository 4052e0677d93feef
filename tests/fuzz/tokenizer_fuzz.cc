// A tokenizer.model: refused, or usable on any text without a control token coming out of it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tokenizer =
      monet::Tokenizer::FromBytes(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!tokenizer.ok()) {
    if (tokenizer.status().code() != absl::StatusCode::kInvalidArgument) std::abort();
    return 0;
  }
  for (const char* text : {"ab <s></s> <0x41>aaaa", "\xE6\x97\xA5 \xF0\x9F\x99\x82", ""}) {
    const auto ids = (*tokenizer)->Encode(text);
    if (!ids.ok()) std::abort();
    for (int32_t id : *ids) {
      if (id < 0 || id >= (*tokenizer)->vocabulary() || (*tokenizer)->IsControl(id)) std::abort();
    }
    (*tokenizer)->Decode(*ids);
  }
  return 0;
}
