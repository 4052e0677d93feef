// What the engine needs of a tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace monet {

class Tokenizer;

struct TokenText {
  // The bytes that a token adds to running text. Called on the engine's thread with any id in
  // [0, V); the view lives as long as the engine.
  std::function<std::string_view(int32_t id)> bytes;
  int32_t eos_id = -1;  // -1: none
};

// The tokenizer must outlive the result. Ids beyond its vocabulary (models pad theirs) add nothing.
TokenText TextOf(const Tokenizer* tokenizer);

}  // namespace monet
