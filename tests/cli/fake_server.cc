#include "tests/cli/fake_server.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "runtime/base/utf8.h"

namespace monet::cli {
namespace {

constexpr char kFingerprint[] = "sha256:f00d";

v1::Policy MakePolicy(const std::string& name, int32_t version) {
  v1::Policy policy;
  policy.set_name(name);
  policy.set_version(version);
  policy.set_digest("sha256:" + std::string(60, 'a') + name + std::to_string(version));
  policy.set_description("Removes " + name + ".");
  policy.set_model_fingerprint(kFingerprint);
  policy.set_semantics("zero");
  policy.set_experts_removed(5 * version);
  policy.set_experts_total(512);
  policy.set_mask_digest("sha256:mask-" + name);
  policy.add_experts_removed_by_router(5 * version - 1);
  policy.add_experts_removed_by_router(1);
  return policy;
}

std::vector<v1::Policy> AllPolicies() {
  return {MakePolicy("alpha", 1), MakePolicy("alpha", 2), MakePolicy("beta", 1)};
}

grpc::Status Apply(const v1::MaskSpec& spec, v1::AppliedMask* mask) {
  mask->set_digest("sha256:none");
  mask->set_experts_total(512);
  for (int i = 0; i < spec.policies_size(); ++i) {
    const std::string name = spec.policies(i).substr(0, spec.policies(i).find('@'));
    if (name == "missing") {
      google::rpc::ErrorInfo info;
      info.set_domain("monet");
      info.set_reason("POLICY_UNKNOWN");
      google::rpc::Status details;
      details.add_details()->PackFrom(info);
      return {grpc::StatusCode::NOT_FOUND,
              "mask.policies[" + std::to_string(i) + "]: no policy\n'missing'",
              details.SerializeAsString()};
    }
    if (name == "ignored") continue;
    const v1::Policy policy = MakePolicy(name, name == "alpha" ? 2 : 1);
    v1::AppliedPolicy* applied = mask->add_policies();
    applied->set_name(policy.name());
    applied->set_version(policy.version());
    applied->set_digest(policy.digest());
    mask->set_digest(policy.mask_digest());
    mask->set_experts_removed(mask->experts_removed() + policy.experts_removed());
  }
  for (const v1::RouterExperts& experts : spec.experts()) {
    mask->set_experts_removed(mask->experts_removed() + experts.ids_size());
    mask->set_digest("sha256:explicit");
  }
  return grpc::Status::OK;
}

// Token ids of a prompt before it is cut; a conversation is its messages one behind the other.
std::vector<int32_t> PromptIds(const v1::Prompt& prompt) {
  if (prompt.has_token_ids()) {
    return {prompt.token_ids().ids().begin(), prompt.token_ids().ids().end()};
  }
  std::string text = prompt.text();
  for (const v1::ChatMessage& message : prompt.conversation().messages()) text += message.content();
  std::vector<int32_t> ids = {1};
  for (char c : text) ids.push_back(static_cast<uint8_t>(c) + 3);
  return ids;
}

// Tokens that TRUNCATION_DROP_END drops.
int32_t Truncated(const v1::Prompt& prompt) {
  if (!prompt.has_truncation()) return 0;
  const int32_t kept = prompt.has_truncate_prompt_tokens() ? prompt.truncate_prompt_tokens()
                                                           : FakeGeneration::kContext;
  return std::max(0, static_cast<int32_t>(PromptIds(prompt).size()) - kept);
}

grpc::Status MakeHeader(const v1::GenerateRequest& request, v1::ResponseHeader* header) {
  header->set_request_id(request.has_request_id() ? request.request_id() : "made-by-server");
  header->set_model("fake");
  header->set_model_fingerprint(kFingerprint);
  header->set_system_fingerprint("fake-0");
  header->set_seed(request.sampling().has_seed() ? request.sampling().seed() : 42);
  header->set_prompt_tokens(1 + static_cast<int32_t>(request.prompt().text().size()));
  header->set_truncated_tokens(Truncated(request.prompt()));
  return Apply(request.mask(), header->mutable_mask());
}

// With top_logprobs: the token itself and its successor.
void AddTop(const v1::GenerateRequest& request, int32_t id, v1::TopLogprobs* top) {
  for (int32_t n = 0; n < request.logprob_options().top_logprobs(); ++n) {
    top->add_token_ids(id + n);
    top->add_logprobs(-0.5f - static_cast<float>(n));
  }
}

void AddToken(const v1::GenerateRequest& request, char c, v1::Completion* completion) {
  const char upper = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  completion->mutable_text()->push_back(upper);
  completion->add_token_ids(static_cast<uint8_t>(upper) + 3);
  completion->add_logprobs(-0.5f);
  if (request.logprob_options().top_logprobs() > 0) {
    AddTop(request, static_cast<uint8_t>(upper) + 3, completion->add_top_logprobs());
  }
}

void AddPrompt(const v1::GenerateRequest& request, v1::PromptLogprobs* prompt) {
  for (char c : request.prompt().text()) {
    prompt->add_token_ids(static_cast<uint8_t>(c) + 3);
    prompt->add_logprobs(-0.25f);
    if (request.logprob_options().top_logprobs() > 0) {
      AddTop(request, static_cast<uint8_t>(c) + 3, prompt->add_top_logprobs());
    }
  }
}

void MakeFinish(const v1::GenerateRequest& request, int32_t tokens, v1::Finish* finish) {
  const bool is_long = request.stopping().max_tokens() == tokens;
  finish->set_finish_reason(is_long ? v1::FINISH_REASON_LENGTH : v1::FINISH_REASON_STOP);
  if (!is_long) finish->set_stop_token_id(2);
  finish->mutable_usage()->set_prompt_tokens(1 +
                                             static_cast<int32_t>(request.prompt().text().size()));
  finish->mutable_usage()->set_completion_tokens(tokens);
  finish->set_removed_weight_share(0.125);
}

// The prompt's characters that max_tokens leaves.
std::string Shorten(const v1::GenerateRequest& request) {
  const std::string& text = request.prompt().text();
  if (!request.stopping().has_max_tokens()) return text;
  return text.substr(0, static_cast<size_t>(request.stopping().max_tokens()));
}

}  // namespace

grpc::Status FakeGeneration::Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                                      v1::GenerateResponse* response) {
  {
    std::lock_guard lock(mutex_);
    last_generate_ = *request;
  }
  const grpc::Status status = MakeHeader(*request, response->mutable_header());
  if (!status.ok()) return status;
  for (int32_t index = 0; index < std::max(request->n(), 1); ++index) {
    v1::Completion* completion = response->add_completions();
    completion->set_index(index);
    if (request->echo()) completion->set_text(request->prompt().text());
    for (char c : Shorten(*request)) AddToken(*request, c, completion);
    MakeFinish(*request, completion->token_ids_size(), response->add_finishes());
    response->mutable_finishes(index)->set_index(index);
  }
  if (request->logprob_options().prompt_logprobs()) {
    AddPrompt(*request, response->mutable_prompt_logprobs());
  }
  return grpc::Status::OK;
}

grpc::Status FakeGeneration::GenerateStream(
    grpc::ServerContext* context, const v1::GenerateStreamRequest* request,
    grpc::ServerWriter<v1::GenerateStreamResponse>* writer) {
  const v1::GenerateRequest& asked = request->request();
  {
    std::lock_guard lock(mutex_);
    last_generate_ = asked;
  }
  v1::GenerateStreamResponse message;
  const grpc::Status status = MakeHeader(asked, message.mutable_header());
  if (!status.ok()) return status;
  writer->Write(message);
  if (asked.echo()) {
    message.mutable_delta()->set_text(asked.prompt().text());
    writer->Write(message);
  }
  if (asked.logprob_options().prompt_logprobs()) {
    AddPrompt(asked, message.mutable_prompt_logprobs());
    writer->Write(message);
  }
  const std::string text = Shorten(asked);
  for (char c : text) {
    message.mutable_delta()->Clear();
    AddToken(asked, c, message.mutable_delta());
    for (int32_t index = 0; index < std::max(asked.n(), 1); ++index) {
      message.mutable_delta()->set_index(index);
      writer->Write(message);
    }
    while (text == "wait" && !context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (context->IsCancelled()) {
      cancelled_ = true;
      return grpc::Status::CANCELLED;
    }
  }
  if (no_finish) return grpc::Status::OK;
  MakeFinish(asked, static_cast<int32_t>(text.size()), message.mutable_finish());
  for (int32_t index = 0; index < std::max(asked.n(), 1); ++index) {
    message.mutable_finish()->set_index(index);
    writer->Write(message);
  }
  return grpc::Status::OK;
}

grpc::Status FakeGeneration::Score(grpc::ServerContext*, const v1::ScoreRequest* request,
                                   v1::ScoreResponse* response) {
  std::lock_guard lock(mutex_);
  scores_.push_back(*request);
  std::vector<int32_t> ids = PromptIds(request->prompt());
  ids.resize(ids.size() - static_cast<size_t>(Truncated(request->prompt())));
  if (ids.size() < 2 || ids.size() > kContext) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "prompt.token_ids has a bad length"};
  }
  const grpc::Status status = MakeHeader(v1::GenerateRequest(), response->mutable_header());
  if (!status.ok()) return status;
  response->mutable_header()->set_truncated_tokens(Truncated(request->prompt()));
  const grpc::Status mask = Apply(request->mask(), response->mutable_header()->mutable_mask());
  if (!mask.ok()) return mask;
  if (policies_change) {
    response->mutable_header()->mutable_mask()->set_digest(std::to_string(scores_.size()));
  }
  for (size_t i = 1; i < ids.size(); ++i) {
    response->add_token_ids(ids[i]);
    response->add_logprobs(static_cast<float>(-ids[i]) / 128.0f);
  }
  response->mutable_usage()->set_prompt_tokens(static_cast<int32_t>(ids.size()));
  response->set_removed_weight_share(ids.size() == kContext ? 0.25 : 0.0);
  return grpc::Status::OK;
}

grpc::Status FakeGeneration::Tokenize(grpc::ServerContext* context,
                                      const v1::TokenizeRequest* request,
                                      v1::TokenizeResponse* response) {
  {
    std::lock_guard lock(mutex_);
    const auto found = context->client_metadata().find("authorization");
    last_authorization_ = found == context->client_metadata().end()
                              ? ""
                              : std::string(found->second.data(), found->second.size());
  }
  if (!request->has_add_bos() || request->add_bos()) response->add_token_ids(1);
  for (char c : request->text()) response->add_token_ids(static_cast<uint8_t>(c) + 3);
  return grpc::Status::OK;
}

grpc::Status FakeGeneration::Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                                        v1::DetokenizeResponse* response) {
  std::string bytes;
  for (const int32_t id : request->token_ids()) {
    if (id >= 3) bytes.push_back(static_cast<char>(id - 3));
  }
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Unit unit = NextUtf8(std::string_view(bytes).substr(i));
    const bool is_text = unit.kind == Utf8Unit::Kind::kCharacter;
    response->mutable_text()->append(is_text ? bytes.substr(i, unit.length) : "\uFFFD");
    i += is_text ? unit.length : 1;
  }
  return grpc::Status::OK;
}

grpc::Status FakeGeneration::GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                                      v1::GetModelResponse* response) {
  response->set_name("fake");
  response->set_fingerprint(kFingerprint);
  response->set_context_tokens(kContext);
  response->set_experts_per_side(16);
  response->set_decomposition(v1::DECOMPOSITION_HORIZONTAL);
  response->add_routers()->set_layer_count(2);
  response->mutable_limits()->set_max_prompt_bytes(64);
  response->mutable_limits()->set_max_context_tokens(kContext);
  response->add_allowed_policies()->set_name("alpha");
  response->set_explicit_masks_allowed(true);
  response->set_chat_template("llama2");
  response->mutable_limits()->set_max_completions(3);
  response->mutable_limits()->set_max_chat_messages(4);
  return grpc::Status::OK;
}

v1::GenerateRequest FakeGeneration::last_generate() const {
  std::lock_guard lock(mutex_);
  return last_generate_;
}

std::string FakeGeneration::last_authorization() const {
  std::lock_guard lock(mutex_);
  return last_authorization_;
}

std::vector<v1::ScoreRequest> FakeGeneration::scores() const {
  std::lock_guard lock(mutex_);
  return scores_;
}

bool FakeGeneration::TakeCancelled() {
  for (int i = 0; i < 1000; ++i) {
    if (cancelled_.exchange(false)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

grpc::Status FakePolicies::ListPolicies(grpc::ServerContext*,
                                        const v1::ListPoliciesRequest* request,
                                        v1::ListPoliciesResponse* response) {
  const std::vector<v1::Policy> all = AllPolicies();
  const size_t first = request->page_token().empty() ? 0 : std::stoul(request->page_token());
  *response->add_policies() = all[first];
  if (endless) {
    response->set_next_page_token("1");
  } else if (first + 1 < all.size()) {
    response->set_next_page_token(std::to_string(first + 1));
  }
  return grpc::Status::OK;
}

grpc::Status FakeHealth::Check(grpc::ServerContext* context,
                               const grpc::health::v1::HealthCheckRequest* request,
                               grpc::health::v1::HealthCheckResponse* response) {
  while (silent && !context->IsCancelled()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  if (request->service().empty()) {
    response->set_status(status);
    return grpc::Status::OK;
  }
  if (request->service() != "liveness") return {grpc::StatusCode::NOT_FOUND, "unknown service"};
  response->set_status(grpc::health::v1::HealthCheckResponse::SERVING);
  return grpc::Status::OK;
}

FakeServer::FakeServer() { Start(grpc::InsecureServerCredentials()); }

FakeServer::FakeServer(const CertificateAuthority& authority) {
  grpc::SslServerCredentialsOptions options(
      GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = authority.pem();
  const IssuedCertificate server = authority.Issue({.common_name = "server"});
  options.pem_key_cert_pairs.push_back({server.key, server.certificate});
  Start(grpc::SslServerCredentials(options));
}

void FakeServer::Start(const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", credentials, &port);
  builder.RegisterService(&generation);
  builder.RegisterService(&policies);
  builder.RegisterService(&health);
  server_ = builder.BuildAndStart();
  address_ = "127.0.0.1:" + std::to_string(port);
}

FakeServer::~FakeServer() {
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
}

}  // namespace monet::cli
