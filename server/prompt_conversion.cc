#include "server/prompt_conversion.h"

#include <algorithm>
#include <utility>

#include "runtime/base/reasons.h"
#include "runtime/limits.h"
#include "server/chat_template.h"
#include "server/field_checks.h"

namespace monet::server {
namespace {

using Content = PromptInput::Content;
using Truncation = PromptInput::Truncation;

absl::Status ConvertTruncation(const v1::Prompt& prompt, const ServedShape& shape,
                               PromptInput* to) {
  switch (prompt.truncation()) {
    case v1::TRUNCATION_UNSPECIFIED:
    case v1::TRUNCATION_REFUSE:
      break;
    case v1::TRUNCATION_DROP_START:
      to->truncation = Truncation::kDropStart;
      break;
    case v1::TRUNCATION_DROP_END:
      to->truncation = Truncation::kDropEnd;
      break;
    default:
      return InvalidField("prompt.truncation is {}, which is none of the values known",
                          static_cast<int>(prompt.truncation()));
  }
  if (!prompt.has_truncate_prompt_tokens()) return absl::OkStatus();
  const int32_t tokens = prompt.truncate_prompt_tokens();
  if (!prompt.has_truncation()) {
    return InvalidField("prompt.truncate_prompt_tokens needs prompt.truncation");
  }
  if (tokens < 1 || tokens > shape.context) {
    return InvalidField("prompt.truncate_prompt_tokens is {}, range 1 to {}", tokens,
                        shape.context);
  }
  to->max_tokens = tokens;
  return absl::OkStatus();
}

// Every token stands for some bytes, so the length alone may say that a text does not fit.
absl::Status CheckFits(const char* field, size_t bytes, const PromptInput& prompt,
                       const ServedShape& shape) {
  if (prompt.truncation != Truncation::kRefuse || bytes <= shape.max_text_bytes) {
    return absl::OkStatus();
  }
  return Refuse(Reason::kContextTooLong,
                "{} is {} bytes, limit {}: more cannot fit the context of {} tokens", field, bytes,
                shape.max_text_bytes, shape.context);
}

absl::Status ConvertTokenIds(const v1::TokenIds& from, const ServedShape& shape, PromptInput* to) {
  const bool whole = to->truncation == Truncation::kRefuse;
  const int64_t limit =
      whole ? shape.context : std::max<int64_t>(shape.context, limits::kMaxPromptTokenIds);
  if (from.ids().empty() || from.ids_size() > limit) {
    return Refuse(from.ids().empty() || !whole ? Reason::kInvalidField : Reason::kContextTooLong,
                  "prompt.token_ids has {} ids, range 1 to {}", from.ids_size(), limit);
  }
  for (int i = 0; i < from.ids_size(); ++i) {
    MONET_RETURN_IF_ERROR(CheckTokenId("prompt.token_ids.ids", i, from.ids(i), shape.vocabulary));
  }
  to->token_ids.assign(from.ids().begin(), from.ids().end());
  return absl::OkStatus();
}

absl::Status ConvertConversation(const v1::Conversation& from, const ServedShape& shape,
                                 PromptInput* to) {
  if (shape.chat_template == ChatTemplate::kNone) {
    return Refuse(Reason::kUnsupportedField,
                  "prompt.conversation needs a chat template, and this server has none configured");
  }
  const int count = from.messages_size();
  if (count < 1 || count > limits::kMaxChatMessages) {
    return InvalidField("prompt.conversation.messages has {} entries, range 1 to {}", count,
                        limits::kMaxChatMessages);
  }
  size_t bytes = 0;
  for (const v1::ChatMessage& message : from.messages()) bytes += message.content().size();
  if (bytes > limits::kMaxPromptBytes) {
    return InvalidField("prompt.conversation is {} bytes, limit {}", bytes,
                        limits::kMaxPromptBytes);
  }
  for (int i = 0; i < count; ++i) {
    MONET_RETURN_IF_ERROR(CheckText(fmt::format("prompt.conversation.messages[{}].content", i),
                                    from.messages(i).content()));
  }
  MONET_ASSIGN_OR_RETURN(to->turns, RenderConversation(shape.chat_template, from));
  size_t rendered = 0;
  for (const std::string& turn : to->turns) rendered += turn.size();
  return CheckFits("prompt.conversation", rendered, *to, shape);
}

absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text, const Tokenizer& tokenizer) {
  auto ids = tokenizer.Encode(text);
  if (ids.status().code() == absl::StatusCode::kInvalidArgument) {
    return AtField("prompt", ids.status());
  }
  return ids;
}

absl::StatusOr<std::vector<int32_t>> EncodeTurns(const std::vector<std::string>& turns,
                                                 const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < turns.size(); ++i) {
    MONET_ASSIGN_OR_RETURN(const std::vector<int32_t> turn, Encode(turns[i], tokenizer));
    ids.push_back(tokenizer.bos_id());
    ids.insert(ids.end(), turn.begin(), turn.end());
    if (i + 1 < turns.size()) ids.push_back(tokenizer.eos_id());
  }
  return ids;
}

absl::StatusOr<std::vector<int32_t>> EncodeText(const std::string& text,
                                                const Tokenizer& tokenizer) {
  MONET_ASSIGN_OR_RETURN(std::vector<int32_t> ids, Encode(text, tokenizer));
  if (tokenizer.bos_id() >= 0) ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

// Keeps `room` of the ids, the first `fixed` of them in any case. Returns vectors of their own
// size: what was dropped shall not be held as long as the request runs.
std::vector<int32_t> Kept(const std::vector<int32_t>& ids, Truncation truncation, size_t room,
                          size_t fixed) {
  if (truncation == Truncation::kDropEnd) {
    return {ids.begin(), ids.begin() + static_cast<ptrdiff_t>(room)};
  }
  std::vector<int32_t> kept(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(fixed));
  kept.insert(kept.end(), ids.end() - static_cast<ptrdiff_t>(room - fixed), ids.end());
  return kept;
}

}  // namespace

absl::StatusOr<PromptInput> ConvertPrompt(const v1::Prompt& prompt, const ServedShape& shape) {
  PromptInput to;
  MONET_RETURN_IF_ERROR(ConvertTruncation(prompt, shape, &to));
  switch (prompt.content_case()) {
    case v1::Prompt::kText:
      to.content = Content::kText;
      MONET_RETURN_IF_ERROR(CheckText("prompt.text", prompt.text()));
      MONET_RETURN_IF_ERROR(CheckFits("prompt.text", prompt.text().size(), to, shape));
      to.text = prompt.text();
      return to;
    case v1::Prompt::kTokenIds:
      to.content = Content::kTokenIds;
      MONET_RETURN_IF_ERROR(ConvertTokenIds(prompt.token_ids(), shape, &to));
      return to;
    case v1::Prompt::kConversation:
      to.content = Content::kTurns;
      MONET_RETURN_IF_ERROR(ConvertConversation(prompt.conversation(), shape, &to));
      return to;
    case v1::Prompt::CONTENT_NOT_SET:
      break;
  }
  return InvalidField(
      "prompt is required: give prompt.text, prompt.token_ids or prompt.conversation");
}

absl::StatusOr<PromptTokens> TokenizePrompt(const PromptInput& prompt, const Tokenizer& tokenizer,
                                            int32_t room) {
  PromptTokens tokens;
  if (prompt.content == Content::kTokenIds) {
    tokens.ids = prompt.token_ids;
  } else if (prompt.content == Content::kText) {
    MONET_ASSIGN_OR_RETURN(tokens.ids, EncodeText(prompt.text, tokenizer));
  } else {
    MONET_ASSIGN_OR_RETURN(tokens.ids, EncodeTurns(prompt.turns, tokenizer));
  }
  const size_t size = tokens.ids.size();
  if (prompt.truncation == Truncation::kRefuse) {
    if (prompt.max_tokens && size > static_cast<size_t>(*prompt.max_tokens)) {
      return InvalidField("prompt is {} tokens, limit {}, which is prompt.truncate_prompt_tokens",
                          size, *prompt.max_tokens);
    }
    return tokens;
  }
  const auto keep = static_cast<size_t>(prompt.max_tokens.value_or(std::max(room, 1)));
  if (size <= keep) return tokens;
  const bool own_bos = prompt.content != Content::kTokenIds && tokenizer.bos_id() >= 0;
  tokens.ids = Kept(tokens.ids, prompt.truncation, keep, own_bos ? 1 : 0);
  tokens.truncated = static_cast<int32_t>(size - keep);
  return tokens;
}

std::string PromptText(const PromptInput& prompt, const PromptTokens& tokens,
                       const Tokenizer& tokenizer) {
  if (prompt.content == Content::kText && tokens.truncated == 0) return prompt.text;
  return tokenizer.Decode(tokens.ids);
}

}  // namespace monet::server
