// A server of the public API without a model, on a port of its own: answers are simple functions of
// the request, and requests are kept for the test to look at.
//
//   tokens: <s> is 1, a byte b of text is b + 3 (bytes that are no UTF-8 are one U+FFFD); context
//   8; log-probability of id: -id / 128 policies: "alpha" (1, 2) and "beta" (1); "missing" is
//   NOT_FOUND; "ignored" is not applied completion of a prompt: its text in upper case, a token a
//   byte; the prompt "wait" streams "W" and then nothing until the call is cancelled
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "monet/v1/generation.grpc.pb.h"
#include "monet/v1/policy.grpc.pb.h"
#include "tests/server/certificate_writer.h"

namespace monet::cli {

class FakeGeneration final : public v1::GenerationService::Service {
 public:
  static constexpr int32_t kContext = 8;

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        v1::GenerateResponse* response) override;
  grpc::Status GenerateStream(grpc::ServerContext* context,
                              const v1::GenerateStreamRequest* request,
                              grpc::ServerWriter<v1::GenerateStreamResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override;

  v1::GenerateRequest last_generate() const;
  // Metadata "authorization" of the last Tokenize; empty without.
  std::string last_authorization() const;
  std::vector<v1::ScoreRequest> scores() const;
  // Whether a stream saw its cancellation since the last call; waits for it a few seconds.
  bool TakeCancelled();

  // What goes wrong, for the tests of a client that is answered badly.
  std::atomic<bool> no_finish{false};        // streams end without one
  std::atomic<bool> policies_change{false};  // another mask digest in every Score

 private:
  mutable std::mutex mutex_;
  v1::GenerateRequest last_generate_;
  std::string last_authorization_;
  std::vector<v1::ScoreRequest> scores_;
  std::atomic<bool> cancelled_{false};
};

class FakePolicies final : public v1::PolicyService::Service {
 public:
  // One policy a page.
  grpc::Status ListPolicies(grpc::ServerContext* context, const v1::ListPoliciesRequest* request,
                            v1::ListPoliciesResponse* response) override;

  std::atomic<bool> endless{false};  // pages that lead to themselves
};

class FakeHealth final : public grpc::health::v1::Health::Service {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  // NOT_FOUND for every name but "" and "liveness", which is SERVING.
  grpc::Status Check(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;

  std::atomic<Status> status{grpc::health::v1::HealthCheckResponse::SERVING};  // of ""
  std::atomic<bool> silent{false};  // calls get no answer
};

class FakeServer {
 public:
  FakeServer();
  // With TLS, for clients that have a certificate too.
  explicit FakeServer(const CertificateAuthority& authority);
  ~FakeServer();

  const std::string& address() const { return address_; }

  FakeGeneration generation;
  FakePolicies policies;
  FakeHealth health;

 private:
  void Start(const std::shared_ptr<grpc::ServerCredentials>& credentials);

  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace monet::cli
