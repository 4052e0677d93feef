#include "tests/e2e/client.h"

#include <gtest/gtest.h>

namespace monet::e2e {

v1::GenerateRequest Greedy(const std::string& prompt, int32_t max_tokens) {
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text(prompt);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  return request;
}

Client::Client(const std::string& address,
               const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(32 << 20);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  channel_ = grpc::CreateCustomChannel(address, credentials, arguments);
  generation_ = v1::GenerationService::NewStub(channel_);
  policy_ = v1::PolicyService::NewStub(channel_);
  health_ = grpc::health::v1::Health::NewStub(channel_);
}

grpc::Status Client::Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
  grpc::ClientContext context;
  return generation_->Generate(&context, request, response);
}

StreamResult Client::Stream(const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  v1::GenerateStreamRequest outer;
  *outer.mutable_request() = request;
  const auto reader = generation_->GenerateStream(&context, outer);
  StreamResult result;
  v1::GenerateStreamResponse message;
  while (reader->Read(&message)) {
    if (message.has_header()) result.header = message.header();
    if (message.has_finish()) result.finish = message.finish();
    if (message.has_delta()) {
      result.completion.set_text(result.completion.text() + message.delta().text());
      result.completion.mutable_token_ids()->MergeFrom(message.delta().token_ids());
      result.completion.mutable_logprobs()->MergeFrom(message.delta().logprobs());
      result.completion.mutable_top_logprobs()->MergeFrom(message.delta().top_logprobs());
      result.completion.mutable_routing()->MergeFrom(message.delta().routing());
    }
    if (message.has_prompt_logprobs()) {
      result.prompt_logprobs.MergeFrom(message.prompt_logprobs());
    }
    result.messages.push_back(message);
  }
  result.status = reader->Finish();
  return result;
}

grpc::Status Client::GetPolicy(const std::string& name, bool bitmap,
                               v1::GetPolicyResponse* response) {
  grpc::ClientContext context;
  v1::GetPolicyRequest request;
  request.set_policy(name);
  request.set_include_bitmap(bitmap);
  return policy_->GetPolicy(&context, request, response);
}

grpc::Status Client::Check(const std::string& service,
                           grpc::health::v1::HealthCheckResponse::ServingStatus* status) {
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse response;
  request.set_service(service);
  const grpc::Status result = health_->Check(&context, request, &response);
  *status = response.status();
  return result;
}

OpenStream::OpenStream(Client* client, const v1::GenerateRequest& request) {
  v1::GenerateStreamRequest outer;
  *outer.mutable_request() = request;
  reader_ = client->generation().GenerateStream(&context_, outer);
}

OpenStream::~OpenStream() {
  if (finished_) return;
  context_.TryCancel();
  v1::Finish finish;
  ReadAll(&finish);
}

bool OpenStream::ReadFirstToken() {
  v1::GenerateStreamResponse message;
  while (reader_->Read(&message)) {
    tokens_ += message.delta().token_ids_size();
    if (tokens_ > 0) return true;
  }
  return false;
}

grpc::Status OpenStream::Finish() {
  finished_ = true;
  return reader_->Finish();
}

grpc::Status OpenStream::ReadAll(v1::Finish* finish) {
  v1::GenerateStreamResponse message;
  while (reader_->Read(&message)) {
    tokens_ += message.delta().token_ids_size();
    if (message.has_finish()) *finish = message.finish();
  }
  return Finish();
}

ServerProcess& SharedServer() {
  static ServerProcess server(ServerProcess::DemoArgs());
  static const bool ready = server.WaitReady();
  if (!ready) ADD_FAILURE() << "the server did not start: " << server.Wait().err;
  return server;
}

}  // namespace monet::e2e
