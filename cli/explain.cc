// monetctl explain: the experts that are active for each token of a text.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/exit_status.h"
#include "cli/explain_arguments.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/routing_table.h"
#include "cli/routing_text.h"
#include "cli/token_texts.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl explain --top 3 'def main():'\n"
    "  monetctl explain --policy no-python --json --text-file main.py | jq .routers\n"
    "  monetctl explain --out active.safetensors --text-file a.txt --text-file b.txt\n\n"
    "An expert is rROUTER/I/J, all from 0; its weight is that before the mask and may exceed 1.\n"
    "Removed experts are listed too, and marked.\n\n"
    "With --json a line a message: \"event\": header, token (position, token_id, routers: for "
    "each\n"
    "router its experts, how many are active, removed_weight), finish (usage,\n"
    "removed_weight_share).\n\n"
    "--out writes for each router n the tensors rn.sequence, rn.position, rn.expert (I32; I*E + "
    "J)\n"
    "and rn.weight (F16), an entry an active expert, and as metadata model, model_fingerprint,\n"
    "system_fingerprint, mask_digest and experts_per_side (E).";

// Where a call's answer goes. The header comes first, then the tokens in order, then the finish.
class ExplainSink {
 public:
  virtual ~ExplainSink() = default;
  // Before the call; the connection is free.
  virtual absl::Status Begin(const v1::ExplainRequest& /*request*/, Connection* /*connection*/) {
    return absl::OkStatus();
  }
  virtual absl::Status TakeHeader(int32_t sequence, const v1::ResponseHeader& header) = 0;
  virtual absl::Status TakeToken(int32_t sequence, int32_t token_id,
                                 const std::vector<v1::TokenActivation>& routers) = 0;
  virtual absl::Status TakeFinish(int32_t sequence, const v1::ExplainResponse& last) = 0;
  // After the last call.
  virtual absl::Status End() { return absl::OkStatus(); }
};

// Takes the messages of one stream, checks their order and puts the routers of a token together:
// they may come in two messages.
class ExplainReader {
 public:
  ExplainReader(const v1::ExplainRequest* request, int32_t sequence, ExplainSink* sink)
      : request_(request), sequence_(sequence), sink_(sink) {}

  absl::Status Take(const v1::ExplainResponse& message) {
    if (message.has_header() == has_header_) return BadAnswer("one header must open the stream");
    if (finished_) return BadAnswer("the stream goes on after its finish");
    if (message.has_header()) {
      has_header_ = true;
      MONET_RETURN_IF_ERROR(CheckApplied(request_->mask(), message.header().mask()));
      return sink_->TakeHeader(sequence_, message.header());
    }
    ids_.insert(ids_.end(), message.token_ids().begin(), message.token_ids().end());
    for (const v1::TokenActivation& activation : message.activations()) {
      const bool same = !token_.empty() && token_[0].position() == activation.position();
      if (!same) MONET_RETURN_IF_ERROR(EndToken());
      token_.push_back(activation);
    }
    if (!message.has_usage()) return absl::OkStatus();
    finished_ = true;
    MONET_RETURN_IF_ERROR(EndToken());
    if (message.usage().prompt_tokens() != tokens_) {
      return BadAnswer("{} tokens of {}", tokens_, message.usage().prompt_tokens());
    }
    return sink_->TakeFinish(sequence_, message);
  }

  // After the stream has ended with status OK.
  absl::Status End() const {
    return finished_ ? absl::OkStatus() : BadAnswer("the stream ended without a finish");
  }

 private:
  absl::Status EndToken() {
    if (token_.empty()) return absl::OkStatus();
    if (token_[0].position() != tokens_ || tokens_ >= std::ssize(ids_)) {
      return BadAnswer("position {} instead of {}", token_[0].position(), tokens_);
    }
    const absl::Status status =
        sink_->TakeToken(sequence_, ids_[static_cast<size_t>(tokens_++)], token_);
    token_.clear();
    return status;
  }

  const v1::ExplainRequest* request_;
  const int32_t sequence_;
  ExplainSink* sink_;
  bool has_header_ = false;
  bool finished_ = false;
  std::vector<int32_t> ids_;
  int32_t tokens_ = 0;                      // handed on
  std::vector<v1::TokenActivation> token_;  // the next one's, as far as they came
};

class JsonSink final : public ExplainSink {
 public:
  explicit JsonSink(Console* console) : console_(console) {}

  absl::Status TakeHeader(int32_t sequence, const v1::ResponseHeader& header) override {
    Json json = {{"event", "header"}, {"sequence", sequence}};
    AddIdentity(header, &json);
    json["policies"] = AppliedPoliciesJson(header.mask().policies());
    json["mask_digest"] = header.mask().digest();
    AddRemoved(header.mask(), &json);
    json["prompt_tokens"] = header.prompt_tokens();
    return console_->Write(Line(json));
  }

  absl::Status TakeToken(int32_t sequence, int32_t token_id,
                         const std::vector<v1::TokenActivation>& routers) override {
    Json json = {{"event", "token"},
                 {"sequence", sequence},
                 {"position", routers[0].position()},
                 {"token_id", token_id}};
    json["routers"] = Json::array();
    for (const v1::TokenActivation& activation : routers) {
      json["routers"].push_back(ActivationJson(activation));
      json["routers"].back().erase("position");
    }
    return console_->Write(Line(json));
  }

  absl::Status TakeFinish(int32_t sequence, const v1::ExplainResponse& last) override {
    return console_->Write(Line(Json{{"event", "finish"},
                                     {"sequence", sequence},
                                     {"usage", UsageJson(last.usage())},
                                     {"removed_weight_share", last.removed_weight_share()}}));
  }

 private:
  Console* const console_;
};

// A table for people: the tokens' texts beside their ids.
class TableSink final : public ExplainSink {
 public:
  explicit TableSink(Console* console) : console_(console) {}

  absl::Status Begin(const v1::ExplainRequest& request, Connection* connection) override {
    std::vector<int32_t> ids(request.prompt().token_ids().ids().begin(),
                             request.prompt().token_ids().ids().end());
    if (request.prompt().has_text()) {
      v1::TokenizeRequest tokenize;
      tokenize.set_text(request.prompt().text());
      v1::TokenizeResponse response;
      MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
        return connection->generation().Tokenize(context, tokenize, &response);
      }));
      ids.assign(response.token_ids().begin(), response.token_ids().end());
    }
    MONET_ASSIGN_OR_RETURN(const std::vector<TokenText> units, TokenTexts(ids, connection));
    texts_.clear();
    for (const TokenText& unit : units) {
      std::string line = Line(Json(unit.text));
      line.pop_back();
      texts_.push_back(std::move(line));
      // The other bytes of a character.
      texts_.resize(texts_.size() + unit.tokens - 1, "...");
    }
    return absl::OkStatus();
  }

  absl::Status TakeHeader(int32_t sequence, const v1::ResponseHeader& header) override {
    std::string text = sequence > 0 ? fmt::format("=== {}\n", sequence) : "";
    for (const v1::AppliedPolicy& policy : header.mask().policies()) {
      text += fmt::format("policy {}@{}\n", policy.name(), policy.version());
    }
    return console_->Write(text);
  }

  absl::Status TakeToken(int32_t /*sequence*/, int32_t token_id,
                         const std::vector<v1::TokenActivation>& routers) override {
    const int32_t position = routers[0].position();
    const bool known = position < std::ssize(texts_);
    std::string text = fmt::format("position {}  token {} {}\n", position, token_id,
                                   known ? texts_[static_cast<size_t>(position)] : "");
    for (const v1::TokenActivation& activation : routers) text += RoutingText(activation);
    return console_->Write(text);
  }

  absl::Status TakeFinish(int32_t /*sequence*/, const v1::ExplainResponse& last) override {
    return console_->Write(fmt::format("{} tokens, {:.2f} % of the routing weight removed\n",
                                       last.usage().prompt_tokens(),
                                       100 * last.removed_weight_share()));
  }

 private:
  Console* const console_;
  std::vector<std::string> texts_;  // of the tokens in order, quoted, on one line each
};

// --out FILE. All sequences must have run under one mask on one model: a file says it once.
class FileSink final : public ExplainSink {
 public:
  FileSink(std::string path, const v1::GetModelResponse& model, Console* console)
      : path_(std::move(path)),
        table_(model.routers_size(), model.experts_per_side()),
        console_(console) {}

  absl::Status TakeHeader(int32_t /*sequence*/, const v1::ResponseHeader& header) override {
    std::map<std::string, std::string> metadata = {
        {"model", header.model()},
        {"model_fingerprint", header.model_fingerprint()},
        {"system_fingerprint", header.system_fingerprint()},
        {"mask_digest", header.mask().digest()}};
    if (metadata_.empty()) metadata_ = metadata;
    if (metadata_ != metadata) return BadAnswer("model or mask changed between two texts");
    return absl::OkStatus();
  }

  absl::Status TakeToken(int32_t sequence, int32_t /*token_id*/,
                         const std::vector<v1::TokenActivation>& routers) override {
    ++tokens_;
    for (const v1::TokenActivation& activation : routers) {
      MONET_RETURN_IF_ERROR(table_.Add(sequence, activation));
    }
    return absl::OkStatus();
  }

  absl::Status TakeFinish(int32_t sequence, const v1::ExplainResponse& /*last*/) override {
    console_->Progress(fmt::format("{} sequences, {} tokens", sequence + 1, tokens_));
    return absl::OkStatus();
  }

  absl::Status End() override {
    console_->ClearProgress();
    MONET_RETURN_IF_ERROR(table_.Write(path_, metadata_));
    return console_->Write(fmt::format("{} tokens, {} entries\n", tokens_, table_.entries()));
  }

 private:
  const std::string path_;
  RoutingTable table_;
  Console* const console_;
  std::map<std::string, std::string> metadata_;
  int64_t tokens_ = 0;
};

absl::StatusOr<std::unique_ptr<ExplainSink>> MakeSink(const ExplainArguments& arguments,
                                                      Connection* connection, Console* console) {
  MONET_ASSIGN_OR_RETURN(const auto path, arguments.Out());
  if (path) {
    v1::GetModelResponse model;
    MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
      return connection->generation().GetModel(context, v1::GetModelRequest(), &model);
    }));
    return std::make_unique<FileSink>(*path, model, console);
  }
  if (arguments.json) return std::make_unique<JsonSink>(console);
  return std::make_unique<TableSink>(console);
}

absl::Status ExplainOne(const v1::ExplainRequest& request, int32_t sequence, ExplainSink* sink,
                        Connection* connection) {
  MONET_RETURN_IF_ERROR(sink->Begin(request, connection));
  ExplainReader taker(&request, sequence, sink);
  MONET_RETURN_IF_ERROR(connection->Call([&](grpc::ClientContext* context) -> absl::Status {
    const auto reader = connection->expert().Explain(context, request);
    v1::ExplainResponse message;
    absl::Status status;
    while (status.ok() && reader->Read(&message)) status = taker.Take(message);
    if (!status.ok()) context->TryCancel();
    const grpc::Status end = reader->Finish();
    return status.ok() ? FromCall(end) : status;
  }));
  return taker.End();
}

absl::Status RunExplain(const ExplainArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const ServerOptions server, arguments.server.Read());
  MONET_RETURN_IF_ERROR(CheckOutput(arguments.out));
  MONET_ASSIGN_OR_RETURN(const std::vector<v1::ExplainRequest> requests, arguments.Read());
  MONET_ASSIGN_OR_RETURN(const auto connection, Connection::Open(server, session.interrupts));
  MONET_ASSIGN_OR_RETURN(const auto sink, MakeSink(arguments, connection.get(), session.console));
  for (size_t n = 0; n < requests.size(); ++n) {
    MONET_RETURN_IF_ERROR(
        ExplainOne(requests[n], static_cast<int32_t>(n), sink.get(), connection.get()));
  }
  return sink->End();
}

}  // namespace

Command AddExplain(CLI::App* root) {
  CLI::App* app = root->add_subcommand("explain", "Experts that are active for a text's tokens");
  app->footer(kExample);
  auto arguments = std::make_shared<ExplainArguments>(app);
  return {app, [arguments](const Session& session) { return RunExplain(*arguments, session); }};
}

}  // namespace monet::cli
