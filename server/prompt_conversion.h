// From a Prompt message to token ids: a text, a conversation or ids, cut if the caller wants it so.
// Two steps, since the second takes time: ConvertPrompt checks every field and every size,
// TokenizePrompt tokenises at most limits::kMaxPromptBytes of text and truncates. Every method that
// takes a Prompt uses them. Pure; see request_conversion.h for how errors are told.
//
// Beginning- and end-of-sequence tokens are ids that the second step puts there; text never gives
// one (Tokenizer::Encode), "<s>" in it is four characters like others.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "monet/v1/generation.pb.h"
#include "runtime/base/status.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/served_shape.h"

namespace monet::server {

// A checked prompt.
struct PromptInput {
  enum class Content : uint8_t { kText, kTurns, kTokenIds };
  enum class Truncation : uint8_t { kRefuse, kDropStart, kDropEnd };

  Content content = Content::kTokenIds;
  std::string text;                // kText
  std::vector<std::string> turns;  // kTurns, see RenderConversation
  std::vector<int32_t> token_ids;  // kTokenIds, in the vocabulary
  Truncation truncation = Truncation::kRefuse;
  std::optional<int32_t> max_tokens;  // truncate_prompt_tokens
};

struct PromptTokens {
  std::vector<int32_t> ids;
  int32_t truncated = 0;  // tokens dropped
};

absl::StatusOr<PromptInput> ConvertPrompt(const v1::Prompt& prompt, const ServedShape& shape);

// `room`: most tokens to keep of a prompt that may be cut and does not say how many; at least 1.
// Without truncation the result may be longer than the context.
absl::StatusOr<PromptTokens> TokenizePrompt(const PromptInput& prompt, const Tokenizer& tokenizer,
                                            int32_t room);

// The prompt as echo returns it: the text as given when all of it is there, else that of the ids.
std::string PromptText(const PromptInput& prompt, const PromptTokens& tokens,
                       const Tokenizer& tokenizer);

}  // namespace monet::server
