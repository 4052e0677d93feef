#include "cli/token_texts.h"

#include <string_view>

#include "cli/exit_status.h"

namespace monet::cli {
namespace {

// Tokens go behind this one: at the start of a text a decoder drops the space of a word's token.
constexpr char kAnchor[] = "a";
constexpr std::string_view kReplacement = "\uFFFD";
// A character has at most four bytes.
constexpr size_t kMostBytes = 4;

class Detokenizer {
 public:
  explicit Detokenizer(Connection* connection) : connection_(connection) {}

  absl::Status Start() {
    v1::TokenizeRequest request;
    request.set_text(kAnchor);
    request.set_add_bos(false);
    v1::TokenizeResponse response;
    MONET_RETURN_IF_ERROR(connection_->Unary([&](grpc::ClientContext* context) {
      return connection_->generation().Tokenize(context, request, &response);
    }));
    anchor_.assign(response.token_ids().begin(), response.token_ids().end());
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Text(std::span<const int32_t> ids) {
    v1::DetokenizeRequest request;
    request.mutable_token_ids()->Add(anchor_.begin(), anchor_.end());
    request.mutable_token_ids()->Add(ids.begin(), ids.end());
    v1::DetokenizeResponse response;
    MONET_RETURN_IF_ERROR(connection_->Unary([&](grpc::ClientContext* context) {
      return connection_->generation().Detokenize(context, request, &response);
    }));
    if (!response.text().starts_with(kAnchor)) return BadAnswer("tokens change those before them");
    return response.text().substr(sizeof(kAnchor) - 1);
  }

  absl::StatusOr<std::string> TextOfOne(int32_t id) {
    const auto known = texts_.find(id);
    if (known != texts_.end()) return known->second;
    MONET_ASSIGN_OR_RETURN(const std::string text, Text({&id, 1}));
    return texts_[id] = text;
  }

 private:
  Connection* connection_;
  std::vector<int32_t> anchor_;
  std::map<int32_t, std::string> texts_;
};

bool IsPartial(std::string_view text) { return text.find(kReplacement) != text.npos; }

}  // namespace

absl::StatusOr<std::vector<TokenText>> TokenTexts(std::span<const int32_t> ids,
                                                  Connection* connection) {
  Detokenizer detokenizer(connection);
  MONET_RETURN_IF_ERROR(detokenizer.Start());
  std::vector<TokenText> texts;
  for (size_t i = 0; i < ids.size();) {
    TokenText unit{.tokens = 1, .text = {}};
    MONET_ASSIGN_OR_RETURN(unit.text, detokenizer.TextOfOne(ids[i]));
    // The fewest bytes that make a character; what never does stays alone.
    for (size_t n = 2; IsPartial(unit.text) && n <= kMostBytes && i + n <= ids.size(); ++n) {
      MONET_ASSIGN_OR_RETURN(const std::string longer, detokenizer.Text(ids.subspan(i, n)));
      if (!IsPartial(longer)) unit = {.tokens = n, .text = longer};
    }
    i += unit.tokens;
    texts.push_back(std::move(unit));
  }
  return texts;
}

}  // namespace monet::cli
