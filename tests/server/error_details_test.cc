// Every reason of the table over the wire: the services on a real port with the demo model, and
// what a client then finds in its status. A reason that no row produces fails the test.
#include "server/error_details.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "monet/v1/generation.grpc.pb.h"
#include "monet/v1/policy.grpc.pb.h"
#include "runtime/base/reasons.h"
#include "server/generation_service.h"
#include "server/policy_service.h"
#include "tests/policy/policy_writer.h"

namespace monet::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int32_t kManyTokens = 480;

// What a status carries on the wire.
struct Decoded {
  google::rpc::Status status;
  std::vector<google::rpc::ErrorInfo> infos;
  std::vector<google::rpc::BadRequest> bad_requests;
  std::vector<google::rpc::RetryInfo> retries;
};

Decoded Decode(const grpc::Status& status) {
  Decoded decoded;
  EXPECT_TRUE(decoded.status.ParseFromString(status.error_details()));
  for (const google::protobuf::Any& any : decoded.status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&info)) decoded.infos.push_back(info);
    if (any.UnpackTo(&bad_request)) decoded.bad_requests.push_back(bad_request);
    if (any.UnpackTo(&retry)) decoded.retries.push_back(retry);
  }
  EXPECT_EQ(decoded.status.details_size(),
            static_cast<int>(decoded.infos.size() + decoded.bad_requests.size() +
                             decoded.retries.size()));
  return decoded;
}

// A service that answers Tokenize with any status that a test has: for reasons that only callers
// with fewer rights, failures of the server or the engine's own clock give.
class StatusService final
    : public v1::GenerationService::WithRawCallbackMethod_Tokenize<v1::GenerationService::Service> {
 public:
  explicit StatusService(const ServiceContext& service) : service_(service) {}
  absl::Status status;

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override {
    return UnaryCall::Start(service_, "Test/Status", context, request, response,
                            [this](const ServingModel&, const Identity&, const grpc::ByteBuffer&,
                                   grpc::ByteBuffer*) { return status; });
  }

 private:
  const ServiceContext service_;
};

class StatusSink final : public EngineSink {
 public:
  void OnDelta(EngineDelta) override {}
  bool HasRoom() override { return true; }
  void OnFinish(EngineResult result) override { promise_.set_value(result.status); }
  absl::Status Wait() { return promise_.get_future().get(); }

 private:
  std::promise<absl::Status> promise_;
};

class ErrorDetails : public ::testing::Test {
 protected:
  void SetUp() override {
    generation_server_ = Start({&generation_, &policy_}, &generation_port_);
    status_server_ = Start({&status_}, &status_port_);
    stub_ = v1::GenerationService::NewStub(Connect(generation_port_));
    policies_ = v1::PolicyService::NewStub(Connect(generation_port_));
    status_stub_ = v1::GenerationService::NewStub(Connect(status_port_));
  }

  void TearDown() override {
    generation_server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    status_server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    admission_.WaitEmpty(Clock::time_point::max());
  }

  // A model that runs one request and lets one wait, and a policy of another model.
  void Load() {
    folder_.Write("foreign/1.yaml", testing::PolicyText{.name = "foreign"}.Text());
    ServerOptions options;
    options.model = MONET_SOURCE_DIR "/models/demo";
    options.policies = folder_.path();
    options.threads = 1;
    options.max_running = 1;
    options.max_queue = 1;
    auto model = LoadServingModel(options, [](const StepReport&) {});
    ASSERT_TRUE(model.ok()) << Message(model.status());
    model_ = *std::move(model);
    admission_.Open(model_.get());
  }

  static std::unique_ptr<grpc::Server> Start(const std::vector<grpc::Service*>& services,
                                             int* port) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), port);
    for (grpc::Service* service : services) builder.RegisterService(service);
    return builder.BuildAndStart();
  }

  static std::shared_ptr<grpc::Channel> Connect(int port) {
    return grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                               grpc::InsecureChannelCredentials());
  }

  static v1::GenerateRequest Request(int32_t max_tokens = 1) {
    v1::GenerateRequest request;
    request.mutable_prompt()->set_text("x");
    request.mutable_stopping()->set_max_tokens(max_tokens);
    return request;
  }

  grpc::Status Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return stub_->Generate(&context, request, &response);
  }

  // The same request as a stream must be refused with the same words.
  grpc::Status Stream(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateStreamRequest outer;
    *outer.mutable_request() = request;
    const auto reader = stub_->GenerateStream(&context, outer);
    v1::GenerateStreamResponse message;
    while (reader->Read(&message)) {
    }
    return reader->Finish();
  }

  grpc::Status GetPolicy(const std::string& reference) {
    grpc::ClientContext context;
    v1::GetPolicyRequest request;
    request.set_policy(reference);
    v1::GetPolicyResponse response;
    return policies_->GetPolicy(&context, request, &response);
  }

  grpc::Status Send(absl::Status status) {
    status_.status = std::move(status);
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    return status_stub_->Tokenize(&context, v1::TokenizeRequest(), &response);
  }

  // A message that is none.
  grpc::Status SendBytes(const std::string& bytes) {
    grpc::GenericStub stub(Connect(generation_port_));
    grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, "/monet.v1.GenerationService/Generate", {}, &request, &response,
                   [&done](grpc::Status status) { done.set_value(std::move(status)); });
    return done.get_future().get();
  }

  // The engine's own status of a request that is late or cancelled: a client's library ends such
  // calls itself, so the wire seldom shows it.
  absl::Status EngineEnd(Clock::time_point deadline, bool cancel) {
    const auto sink = std::make_shared<StatusSink>();
    EngineRequest request;
    request.prompt_ids = {1};
    request.max_tokens = kManyTokens;
    request.mask = model_->policies->Current()->none();
    request.deadline = deadline;
    const auto id = model_->engine->Submit(std::move(request), sink);
    if (!id.ok()) return id.status();
    if (cancel) model_->engine->Cancel(*id);
    return sink->Wait();
  }

  void AwaitEngine(int64_t running, int64_t waiting) {
    EngineStats stats = model_->engine->Stats();
    for (int i = 0; i < 5000 && (stats.running != running || stats.waiting != waiting); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      stats = model_->engine->Stats();
    }
    EXPECT_EQ(stats.running, running);
    EXPECT_EQ(stats.waiting, waiting);
  }

  // Checks a status against its row of the table and notes the reason as produced.
  void Expect(const grpc::Status& status, Reason reason, const std::string& field = "",
              int64_t retry_ms = 0) {
    const ReasonInfo& row = InfoOf(reason);
    SCOPED_TRACE(row.name);
    EXPECT_EQ(static_cast<int>(status.error_code()), static_cast<int>(row.code));
    EXPECT_EQ(row.names_field, !field.empty());
    const Decoded decoded = Decode(status);
    EXPECT_EQ(decoded.status.code(), static_cast<int>(status.error_code()));
    EXPECT_EQ(decoded.status.message(), status.error_message());
    ASSERT_EQ(decoded.infos.size(), 1u);
    EXPECT_EQ(decoded.infos[0].reason(), row.name);
    EXPECT_EQ(decoded.infos[0].domain(), "monet");
    ASSERT_EQ(decoded.bad_requests.size(), row.names_field ? 1u : 0u);
    if (row.names_field) {
      ASSERT_EQ(decoded.bad_requests[0].field_violations_size(), 1);
      EXPECT_EQ(decoded.bad_requests[0].field_violations(0).field(), field);
      EXPECT_EQ(decoded.bad_requests[0].field_violations(0).description(), status.error_message());
    }
    ASSERT_EQ(decoded.retries.size(), row.retry_after.count() > 0 ? 1u : 0u);
    if (row.retry_after.count() > 0) {
      const auto& delay = decoded.retries[0].retry_delay();
      EXPECT_EQ(delay.seconds() * 1000 + delay.nanos() / 1000000,
                retry_ms == 0 ? row.retry_after.count() : retry_ms);
    }
    EXPECT_THAT(status.error_message(), Not(HasSubstr("127.0.0.1")));
    EXPECT_THAT(status.error_message(), Not(HasSubstr(MONET_SOURCE_DIR)));
    EXPECT_THAT(status.error_message(), Not(HasSubstr(folder_.path().string())));
    ++produced_[row.name];
  }

  void ExpectBoth(const v1::GenerateRequest& request, Reason reason, const std::string& field) {
    const grpc::Status unary = Generate(request);
    Expect(unary, reason, field);
    const grpc::Status stream = Stream(request);
    EXPECT_EQ(stream.error_code(), unary.error_code());
    EXPECT_EQ(stream.error_message(), unary.error_message());
    EXPECT_EQ(stream.error_details(), unary.error_details());
  }

  void RequestsRefused();
  void QueueFull();
  void RightsMissing();
  void TenantRefusals();

  testing::TemporaryFolder folder_;
  std::unique_ptr<ServingModel> model_;  // outlives the calls
  Admission admission_;
  Ingress ingress_{{.threads = 2, .tasks = 16, .bytes = 64 << 20}};
  Metrics metrics_{"demo"};
  StalledStreams stalled_streams_{std::chrono::minutes(1)};
  const std::unique_ptr<TenantRegistry> tenants_ = *TenantRegistry::Load({});
  TenantQuotas quotas_;
  UsageMetrics usage_metrics_{metrics_.registry(), metrics_.labels()};
  const ServiceContext context_{&admission_,
                                &ingress_,
                                &metrics_,
                                &stalled_streams_,
                                {tenants_.get(), &quotas_, {&usage_metrics_}}};
  GenerationService generation_{context_};
  PolicyService policy_{context_};
  StatusService status_{context_};
  int generation_port_ = 0;
  int status_port_ = 0;
  std::unique_ptr<grpc::Server> generation_server_;
  std::unique_ptr<grpc::Server> status_server_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  std::unique_ptr<v1::GenerationService::Stub> status_stub_;
  std::unique_ptr<v1::PolicyService::Stub> policies_;
  std::map<std::string, int> produced_;
};

void ErrorDetails::RequestsRefused() {
  const auto edited = [](auto edit) {
    v1::GenerateRequest request = Request();
    edit(&request);
    return request;
  };
  using R = v1::GenerateRequest;
  ExpectBoth(edited([](R* r) { r->mutable_sampling()->set_top_p(2); }), Reason::kInvalidField,
             "sampling.top_p");
  ExpectBoth(edited([](R* r) { r->mutable_stopping()->add_stop(""); }), Reason::kInvalidField,
             "stopping.stop[0]");
  ExpectBoth(edited([](R* r) { r->clear_prompt(); }), Reason::kInvalidField, "prompt");
  ExpectBoth(edited([](R* r) { r->mutable_mask()->add_experts()->add_rows(-1); }),
             Reason::kInvalidField, "mask.experts[0].rows[0]");
  ExpectBoth(edited([](R* r) {
               r->mutable_mask()
                   ->GetReflection()
                   ->MutableUnknownFields(r->mutable_mask())
                   ->AddVarint(99, 1);
             }),
             Reason::kUnsupportedField, "mask");
  ExpectBoth(Request(512), Reason::kContextTooLong, "prompt");
  ExpectBoth(edited([](R* r) {
               for (int i = 0; i < 1000; ++i) r->mutable_prompt()->mutable_token_ids()->add_ids(1);
             }),
             Reason::kContextTooLong, "prompt.token_ids");
  ExpectBoth(edited([](R* r) { r->set_model("another"); }), Reason::kModelUnknown, "model");
  ExpectBoth(edited([](R* r) { r->mutable_mask()->add_policies("nobody"); }),
             Reason::kPolicyUnknown, "mask.policies[0]");
  ExpectBoth(edited([](R* r) { r->mutable_mask()->add_policies("foreign"); }),
             Reason::kPolicyModelMismatch, "mask.policies[0]");
  Expect(GetPolicy("nobody"), Reason::kPolicyUnknown, "policy");
  Expect(GetPolicy("foreign@1"), Reason::kPolicyModelMismatch, "policy");
  Expect(GetPolicy("foreign@0"), Reason::kInvalidField, "policy");
  Expect(SendBytes("\xff\xff\xff"), Reason::kInvalidMessage);
}

void ErrorDetails::QueueFull() {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>> readers;
  v1::GenerateStreamRequest request;
  *request.mutable_request() = Request(kManyTokens);
  for (const int64_t waiting : {0, 1}) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->GenerateStream(contexts.back().get(), request));
    AwaitEngine(1, waiting);
  }
  Expect(Generate(Request()), Reason::kQueueFull);
  for (size_t i = 0; i < readers.size(); ++i) {
    contexts[i]->TryCancel();
    EXPECT_EQ(readers[i]->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  AwaitEngine(0, 0);
}

void ErrorDetails::RightsMissing() {
  const auto snapshot = model_->policies->Current();
  Tenant tenant;
  MaskChoice experts;
  experts.experts.resize(1);
  Expect(Send(ResolveCallMask(*snapshot, tenant, experts).status()), Reason::kMaskNotAllowed,
         "mask.experts");
  tenant.require = {{.name = "gone"}};
  const grpc::Status mandatory = Send(ResolveCallMask(*snapshot, tenant, {}).status());
  Expect(mandatory, Reason::kPolicyUnavailable);
  EXPECT_THAT(mandatory.error_message(), Not(HasSubstr("gone")));
}

void ErrorDetails::TenantRefusals() {
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer of-nobody");
  v1::GenerateResponse response;
  Expect(stub_->Generate(&context, Request(), &response), Reason::kUnauthenticated);
  Expect(Send(RefuseFor(std::chrono::microseconds(61500001), Reason::kRateLimited, "too many")),
         Reason::kRateLimited, "", 61501);
  Expect(Send(Refuse(Reason::kConcurrencyLimited, "too many")), Reason::kConcurrencyLimited);
  Expect(Send(Refuse(Reason::kLimitExceeded, "n is 3, limit 2")), Reason::kLimitExceeded, "n");
}

TEST_F(ErrorDetails, EveryReasonReachesTheClient) {
  Expect(Generate(Request()), Reason::kLoading);
  ASSERT_NO_FATAL_FAILURE(Load());
  RequestsRefused();
  QueueFull();
  RightsMissing();
  TenantRefusals();
  Expect(Send(EngineEnd(Clock::now(), false)), Reason::kDeadlineExceeded);
  Expect(Send(EngineEnd(Clock::time_point::max(), true)), Reason::kCancelled);
  v1::TokenizeResponse large;
  large.mutable_token_ids()->Resize(20 << 20, 1);
  grpc::ByteBuffer bytes;
  Expect(Send(SerializeMessage(large, &bytes)), Reason::kTooLarge);
  const grpc::Status internal =
      Send(Error(absl::StatusCode::kInternal, "cannot read {}", MONET_SOURCE_DIR));
  Expect(internal, Reason::kInternal);
  EXPECT_EQ(internal.error_message(), "internal error; see the server's log");
  admission_.StartDrain();
  Expect(Generate(Request()), Reason::kDraining);

  for (const ReasonInfo& info : Reasons()) EXPECT_GE(produced_[info.name], 1) << info.name;
}

TEST(ToGrpcStatus, OkHasNoDetails) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpcStatus(absl::OkStatus()).error_details(), "");
}

}  // namespace
}  // namespace monet::server
