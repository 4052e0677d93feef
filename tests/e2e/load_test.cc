// The server under load and under bad input: bounded queues, health that never waits, errors that
// touch nobody else, metrics.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;
using Seconds = std::chrono::duration<double>;

TEST(Queue, OneTooManyIsRefusedAtOnce) {
  ServerProcess server(ServerProcess::DemoArgs({"--max-running", "1", "--max-queue", "2"}));
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  std::vector<std::unique_ptr<OpenStream>> streams;
  streams.push_back(std::make_unique<OpenStream>(&client, Greedy("x", kManyTokens)));
  ASSERT_TRUE(streams.front()->ReadFirstToken());
  grpc::Status refusal;
  double waited = 0;
  // One runs and two wait. More may get in when the first ends meanwhile.
  while (refusal.ok() && streams.size() < 20) {
    const auto start = std::chrono::steady_clock::now();
    auto stream = std::make_unique<OpenStream>(&client, Greedy("x", kManyTokens));
    v1::GenerateStreamResponse message;
    if (stream->Read(&message)) {
      EXPECT_TRUE(message.has_header());
      streams.push_back(std::move(stream));
    } else {
      refusal = stream->Finish();
      waited = Seconds(std::chrono::steady_clock::now() - start).count();
    }
  }
  EXPECT_EQ(refusal.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_GE(streams.size(), 3u);
  EXPECT_LT(waited, 0.5);
  double rejections = 0;
  for (const auto& [name, value] : Scrape(server.metrics_address())) {
    if (name.find("reason=\"queue_full\"") != std::string::npos) rejections += value;
  }
  EXPECT_EQ(rejections, 1);
}

// A stream that is never read, on a connection whose window takes a few bytes only.
class UnreadStream {
 public:
  explicit UnreadStream(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    const auto channel =
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    v1::GenerateStreamRequest request;
    *request.mutable_request() = Greedy("x", kManyTokens);
    reader_ = v1::GenerationService::NewStub(channel)->GenerateStream(&context_, request);
  }
  ~UnreadStream() { Finish(); }

  grpc::Status Finish() {
    if (reader_ == nullptr) return {};
    v1::GenerateStreamResponse message;
    while (reader_->Read(&message)) {
    }
    const grpc::Status status = reader_->Finish();
    reader_.reset();
    return status;
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>> reader_;
};

TEST(StalledStream, GivesItsPlaceBack) {
  ServerProcess server(ServerProcess::DemoArgs({"--max-running", "2", "--stall-timeout", "1"}));
  ASSERT_TRUE(server.WaitReady());
  std::vector<std::unique_ptr<UnreadStream>> stalled;
  for (int i = 0; i < 2; ++i) {
    stalled.push_back(std::make_unique<UnreadStream>(server.grpc_address()));
  }
  ASSERT_TRUE(Eventually(
      [&] { return MetricSum(server.metrics_address(), "monet_num_requests_running") == 2; }));
  Client client(server.grpc_address());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::GenerateResponse response;
  const grpc::Status status = client.generation().Generate(&context, Greedy("x", 1), &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(Eventually(
      [&] { return MetricSum(server.metrics_address(), "monet_num_requests_running") == 0; }));
  EXPECT_EQ(stalled[0]->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// What a request was sent as is of no use once it is parsed.
TEST(Queue, KeepsNoMessagesOfThoseWhoWait) {
  ServerProcess server(ServerProcess::DemoArgs({"--max-running", "1"}));
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  v1::GenerateRequest padded = Greedy("x", kManyTokens);
  padded.GetReflection()->MutableUnknownFields(&padded)->AddLengthDelimited(
      1000, std::string(7 << 20, 'x'));
  std::vector<std::unique_ptr<OpenStream>> streams;
  int64_t after_two = 0;
  for (int i = 0; i < 20; ++i) {
    streams.push_back(std::make_unique<OpenStream>(&client, padded));
    v1::GenerateStreamResponse message;
    ASSERT_TRUE(streams.back()->Read(&message));
    if (i == 1) after_two = server.ResidentBytes();
  }
  EXPECT_GE(MetricSum(server.metrics_address(), "monet_num_requests_waiting"), 10);
  EXPECT_LT(server.ResidentBytes() - after_two, 60 << 20);
}

// Each would otherwise take a thread of the process.
TEST(Reflection, OpenCallsAreBounded) {
  ServerProcess server(ServerProcess::DemoArgs());
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  grpc::GenericStub stub(client.channel());
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::GenericClientAsyncReaderWriter>> calls;
  for (int i = 0; i < 100; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    calls.push_back(
        stub.PrepareCall(contexts.back().get(),
                         "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue));
    calls.back()->StartCall(nullptr);
  }
  void* tag = nullptr;
  bool ok = false;
  for (size_t i = 0; i < calls.size(); ++i) ASSERT_TRUE(queue.Next(&tag, &ok));
  // ServerReflectionRequest.list_services = "": with it the call is open on the server.
  const grpc::Slice list(std::string("\x3a\0", 2));
  for (const auto& call : calls) call->Write(grpc::ByteBuffer(&list, 1), nullptr);
  for (size_t i = 0; i < calls.size(); ++i) ASSERT_TRUE(queue.Next(&tag, &ok));
  std::this_thread::sleep_for(std::chrono::seconds(1));
  EXPECT_LT(server.Threads(), 64);
  HealthCheckResponse::ServingStatus status = HealthCheckResponse::UNKNOWN;
  EXPECT_TRUE(client.Check("", &status).ok());
  v1::GenerateResponse response;
  EXPECT_TRUE(client.Generate(Greedy("x", 1), &response).ok());
  for (const auto& context : contexts) context->TryCancel();
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

TEST(Health, AnswersWhileTheEngineIsSaturated) {
  ServerProcess server(ServerProcess::DemoArgs());
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  std::vector<std::unique_ptr<OpenStream>> streams;
  for (int i = 0; i < 48; ++i) {
    streams.push_back(std::make_unique<OpenStream>(&client, Greedy("x", kManyTokens)));
  }
  ASSERT_TRUE(Eventually(
      [&] { return MetricSum(server.metrics_address(), "monet_num_requests_running") >= 32; }));
  Client prober(server.grpc_address());
  std::vector<double> seconds;
  for (int i = 0; i < 21; ++i) {
    const auto start = std::chrono::steady_clock::now();
    HealthCheckResponse::ServingStatus status = HealthCheckResponse::UNKNOWN;
    ASSERT_TRUE(prober.Check("monet.v1.GenerationService", &status).ok());
    EXPECT_EQ(status, HealthCheckResponse::SERVING);
    seconds.push_back(Seconds(std::chrono::steady_clock::now() - start).count());
  }
  EXPECT_GE(MetricSum(server.metrics_address(), "monet_num_requests_running"), 1)
      << "the load was over before the checks were";
  // The median: this machine's own pauses are not the server's.
  std::sort(seconds.begin(), seconds.end());
  EXPECT_LT(seconds[seconds.size() / 2], 0.1);
}

class BadInputTest : public ::testing::Test {
 protected:
  BadInputTest() : client_(SharedServer().grpc_address()) {}

  // Bytes as they are, without the generated code's help.
  grpc::Status CallRaw(const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(client_.channel());
    grpc::ClientContext context;
    const grpc::Slice slice(bytes);
    grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, method, grpc::StubOptions(), &request, &response,
                   [&done](grpc::Status status) { done.set_value(std::move(status)); });
    return done.get_future().get();
  }

  Client client_;
};

TEST_F(BadInputTest, DamagesNothingBesideIt) {
  const StreamResult expected = client_.Stream(Greedy("def get_queryset(self):\n    ", 200));
  ASSERT_TRUE(expected.status.ok());
  std::future<StreamResult> healthy = std::async(std::launch::async, [this] {
    return client_.Stream(Greedy("def get_queryset(self):\n    ", 200));
  });
  const std::string generate = "/monet.v1.GenerationService/Generate";
  EXPECT_EQ(CallRaw(generate, "\xff\xff\xff\xff").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  // prompt.text that is not UTF-8: field 1, message of 4 bytes, its field 1, string of 2 bytes.
  EXPECT_EQ(CallRaw(generate, std::string("\x0a\x04\x0a\x02\xff\xfe")).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(CallRaw(generate, std::string((8 << 20) + 1, 'x')).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(CallRaw(generate, std::string(1 << 20, '\x0a')).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  v1::GenerateRequest nul = Greedy(std::string("a\0b", 3), 1);
  v1::GenerateResponse response;
  EXPECT_TRUE(client_.Generate(nul, &response).ok());
  EXPECT_TRUE(client_.Generate(Greedy("", 1), &response).ok()) << "an empty text is <s> alone";
  const StreamResult result = healthy.get();
  EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.completion.text(), expected.completion.text());
}

TEST_F(BadInputTest, MetadataIsBounded) {
  grpc::ClientContext context;
  for (int i = 0; i < 100; ++i) {
    context.AddMetadata("x-key-" + std::to_string(i), std::string(1000, 'v'));
  }
  v1::GetModelResponse response;
  EXPECT_EQ(client_.generation().GetModel(&context, {}, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(BadInputTest, ErrorsNameFieldAndLimit) {
  v1::GenerateRequest request = Greedy("x", 1);
  request.mutable_stopping()->add_stop(std::string(300, 'x'));
  v1::GenerateResponse response;
  const grpc::Status status = client_.Generate(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "stopping.stop[0] is 300 bytes, limit 256");
}

TEST_F(BadInputTest, TextThatCannotFitTheContextIsNotTokenised) {
  const std::string megabyte(1 << 20, 'x');
  v1::GenerateResponse response;
  const auto start = std::chrono::steady_clock::now();
  const grpc::Status status = client_.Generate(Greedy(megabyte, 1), &response);
  EXPECT_LT(Seconds(std::chrono::steady_clock::now() - start).count(), 0.5);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("prompt.text is 1048576 bytes, limit "));
}

TEST_F(BadInputTest, CollectRoutingIsUnimplemented) {
  const auto stub = v1::ExpertService::NewStub(client_.channel());
  grpc::ClientContext context;
  const auto stream = stub->CollectRouting(&context);
  v1::CollectRoutingResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST(MetricsPage, HasTheNamesThatDashboardsUse) {
  Client client(SharedServer().grpc_address());
  v1::GenerateRequest request = Greedy("x", 4);
  request.mutable_mask()->add_policies("no-c");
  v1::GenerateResponse response;
  ASSERT_TRUE(client.Generate(request, &response).ok());
  const auto samples = Scrape(SharedServer().metrics_address());
  const auto value = [&samples](const std::string& name) {
    const auto found = samples.find(name);
    EXPECT_NE(found, samples.end()) << name;
    return found == samples.end() ? -1 : found->second;
  };
  const std::string model = "{model_name=\"demo\"}";
  for (const char* name : {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                           "mask_slots_used", "engine_last_step_age_seconds"}) {
    EXPECT_GE(value("monet_" + std::string(name) + model), 0) << name;
  }
  for (const char* name : {"prompt_tokens_total", "generation_tokens_total",
                           "masked_routing_weight_total", "time_to_first_token_seconds_count",
                           "inter_token_latency_seconds_count", "e2e_request_latency_seconds_count",
                           "request_queue_time_seconds_count", "iteration_tokens_total_count"}) {
    EXPECT_GT(value("monet_" + std::string(name) + model), 0) << name;
  }
  EXPECT_GT(value("monet_request_success_total{model_name=\"demo\",finished_reason=\"length\"}"),
            0);
  EXPECT_GT(value("monet_grpc_requests_total{model_name=\"demo\",code=\"OK\",method="
                  "\"GenerationService/Generate\"}"),
            0);
  EXPECT_EQ(MetricSum(SharedServer().metrics_address(), "monet_policy_info"), 12);
  EXPECT_EQ(MetricSum(SharedServer().metrics_address(), "monet_cache_config_info"), 1);
  EXPECT_GT(MetricSum(SharedServer().metrics_address(), "monet_masked_experts"), 0);
}

}  // namespace
}  // namespace monet::e2e
