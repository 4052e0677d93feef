#include "cli/explain_arguments.h"

#include <charconv>
#include <string_view>
#include <utility>

#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {
namespace {

// "1,450,29"
absl::StatusOr<v1::Prompt> ReadTokenIds(std::string_view text) {
  v1::Prompt prompt;
  const char* next = text.data();
  const char* const end = next + text.size();
  while (true) {
    int32_t id = 0;
    const auto [stop, error] = std::from_chars(next, end, id);
    if (error != std::errc() || (stop != end && *stop != ',')) {
      return InvalidArgument("--token-ids is '{}', must be whole numbers with commas between",
                             text);
    }
    prompt.mutable_token_ids()->add_ids(id);
    if (stop == end) return prompt;
    next = stop + 1;
  }
}

absl::StatusOr<v1::Prompt> ReadText(std::string_view field, std::string text) {
  MONET_RETURN_IF_ERROR(RequireUtf8(field, text));
  v1::Prompt prompt;
  prompt.set_text(std::move(text));
  return prompt;
}

}  // namespace

ExplainArguments::ExplainArguments(CLI::App* app) : server(app), mask(app) {
  top = AddValue(app, "--top", "N",
                 "Experts of each token and router: the N heaviest, removed ones included, 1 to\n"
                 "8192; 0 is 8192. Default: 16, with --out 0");
  min_weight =
      AddValue(app, "--min-weight", "W", "Leave out lighter experts, 0 to 1000. Default: 0");
  out = AddValue(app, "--out", "FILE",
                 "Write a safetensors file instead of printing: a new one, or in the place of a\n"
                 "regular file (also of one that a link leads to)");
  model = AddValue(app, "--model", "NAME",
                   "Refuse to run on a model of another name. Default: whatever is served");
  request_id = AddValue(app, "--request-id", "ID",
                        "Your own id for the server's log, at most 128 visible ASCII characters.\n"
                        "Default: made by the server");
  app->add_flag("--json", json, "Print JSON, a line a token");
  text_file = AddRepeated(app, "--text-file", "FILE",
                          "UTF-8 text to explain instead of TEXT; '-' is standard input. May be\n"
                          "repeated: each is a sequence of its own");
  token_ids = AddValue(app, "--token-ids", "IDS",
                       "Token ids to explain instead of TEXT, as 1,450,29; nothing is added");
  text = AddValue(app, "TEXT", "",
                  "Text to explain, may be ''; <s> is put before it. '-' reads standard\n"
                  "input. After '--' a text may begin with '-'");
}

absl::StatusOr<std::optional<std::string>> ExplainArguments::Out() const { return TextOf(out); }

absl::StatusOr<std::vector<v1::Prompt>> ExplainArguments::ReadPrompts() const {
  const auto kinds = (text->count() > 0) + (text_file->count() > 0) + (token_ids->count() > 0);
  if (kinds != 1) return InvalidArgument("give one of TEXT, --text-file and --token-ids");
  std::vector<v1::Prompt> prompts;
  if (token_ids->count() > 0) {
    MONET_ASSIGN_OR_RETURN(const auto ids, TextOf(token_ids));
    MONET_ASSIGN_OR_RETURN(prompts.emplace_back(), ReadTokenIds(*ids));
  }
  if (text->count() > 0) {
    std::string words = text->results()[0];
    if (words == "-") {
      MONET_ASSIGN_OR_RETURN(words, ReadInput(words));
    }
    MONET_ASSIGN_OR_RETURN(prompts.emplace_back(), ReadText("TEXT", std::move(words)));
  }
  for (const std::string& path : text_file->results()) {
    MONET_ASSIGN_OR_RETURN(std::string words, ReadInput(path));
    MONET_ASSIGN_OR_RETURN(prompts.emplace_back(), ReadText("--text-file", std::move(words)));
  }
  return prompts;
}

absl::StatusOr<std::vector<v1::ExplainRequest>> ExplainArguments::Read() const {
  v1::ExplainRequest request;
  MONET_ASSIGN_OR_RETURN(*request.mutable_mask(), mask.Read());
  MONET_ASSIGN_OR_RETURN(const auto model_name, TextOf(model));
  if (model_name) request.set_model(*model_name);
  MONET_ASSIGN_OR_RETURN(const auto id, TextOf(request_id));
  if (id) request.set_request_id(*id);
  MONET_ASSIGN_OR_RETURN(const auto top_value, Int32Of(top));
  if (top_value || out->count() > 0) request.set_top_n(top_value.value_or(0));
  MONET_ASSIGN_OR_RETURN(const auto weight, FiniteOf(min_weight));
  if (weight) request.set_min_weight(*weight);
  MONET_ASSIGN_OR_RETURN(std::vector<v1::Prompt> prompts, ReadPrompts());
  std::vector<v1::ExplainRequest> requests;
  for (v1::Prompt& prompt : prompts) {
    *requests.emplace_back(request).mutable_prompt() = std::move(prompt);
  }
  return requests;
}

}  // namespace monet::cli
