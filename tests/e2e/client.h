// The generated client with the few shapes of calls that the tests make.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "monet/v1/expert.grpc.pb.h"
#include "monet/v1/generation.grpc.pb.h"
#include "monet/v1/policy.grpc.pb.h"
#include "tests/e2e/server_process.h"

namespace monet::e2e {

// Tokens that take the server long enough for something to happen meanwhile.
inline constexpr int32_t kManyTokens = 480;

v1::GenerateRequest Greedy(const std::string& prompt, int32_t max_tokens);

// What a stream brought, message by message.
struct StreamResult {
  grpc::Status status;
  std::vector<v1::GenerateStreamResponse> messages;
  v1::ResponseHeader header;
  v1::Completion completion;  // all deltas together
  v1::PromptLogprobs prompt_logprobs;
  v1::Finish finish;
};

class Client {
 public:
  explicit Client(const std::string& address,
                  const std::shared_ptr<grpc::ChannelCredentials>& credentials =
                      grpc::InsecureChannelCredentials());

  grpc::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response);
  StreamResult Stream(const v1::GenerateRequest& request);
  grpc::Status GetPolicy(const std::string& name, bool bitmap, v1::GetPolicyResponse* response);
  grpc::Status Check(const std::string& service,
                     grpc::health::v1::HealthCheckResponse::ServingStatus* status);

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  v1::GenerationService::Stub& generation() { return *generation_; }
  v1::PolicyService::Stub& policy() { return *policy_; }
  grpc::health::v1::Health::Stub& health() { return *health_; }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::PolicyService::Stub> policy_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// A stream that the test reads message by message.
class OpenStream {
 public:
  OpenStream(Client* client, const v1::GenerateRequest& request);
  // Cancels and waits.
  ~OpenStream();

  bool Read(v1::GenerateStreamResponse* message) { return reader_->Read(message); }
  // Reads to the first delta with a token; false when the stream ended before.
  bool ReadFirstToken();
  grpc::Status Finish();
  void Cancel() { context_.TryCancel(); }
  // Tokens read so far.
  int32_t tokens() const { return tokens_; }
  // Reads what is left and returns the status; *finish holds the finish message, if one came.
  grpc::Status ReadAll(v1::Finish* finish);

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>> reader_;
  int32_t tokens_ = 0;
  bool finished_ = false;
};

// Waits until `condition` holds; false after the limit.
template <typename Condition>
bool Eventually(Condition condition, std::chrono::seconds limit = std::chrono::seconds(10)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

// One server for all tests of a suite.
ServerProcess& SharedServer();

}  // namespace monet::e2e
