// The demo model's tokenizer, for tests of what is done with prompts.
#pragma once

#include <cstdlib>
#include <memory>

#include "runtime/tokenizer/tokenizer.h"

namespace monet::server {

// Loaded once.
inline const Tokenizer& DemoTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    auto loaded = Tokenizer::FromFile(MONET_SOURCE_DIR "/models/demo/tokenizer.model");
    if (!loaded.ok()) std::abort();
    return *std::move(loaded);
  }();
  return *tokenizer;
}

}  // namespace monet::server
