#include "server/health.h"

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace monet::server {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

TEST(HealthTable, StartsNotServingAndKnowsItsServices) {
  HealthTable table({"a"});
  EXPECT_EQ(table.Get(""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(table.Get("a"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(table.Get("b"), HealthCheckResponse::SERVICE_UNKNOWN);
  table.SetAll(true);
  EXPECT_EQ(table.Get("a"), HealthCheckResponse::SERVING);
  EXPECT_EQ(table.Get("b"), HealthCheckResponse::SERVICE_UNKNOWN);
}

TEST(HealthTable, LivenessIsTheEnginesAndNotReadiness) {
  HealthTable table({"a"});
  EXPECT_EQ(table.Get(kLivenessService), HealthCheckResponse::SERVING);  // while it loads
  bool alive = true;
  table.SetLiveness([&alive] { return alive; });
  table.SetAll(false);  // while it drains
  EXPECT_EQ(table.Get(kLivenessService), HealthCheckResponse::SERVING);
  alive = false;
  table.SetAll(true);
  EXPECT_EQ(table.Get(kLivenessService), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(table.Get("a"), HealthCheckResponse::SERVING);
}

class HealthServiceTest : public ::testing::Test {
 protected:
  HealthServiceTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    health_.Register(&builder);
    server_ = builder.BuildAndStart();
    health_.Start();
    stub_ = Health::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                grpc::InsecureChannelCredentials()));
  }
  ~HealthServiceTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    health_.Stop();
  }

  grpc::Status Check(const std::string& service, HealthCheckResponse* response) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    return stub_->Check(&context, request, response);
  }

  HealthService health_{{"a"}};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Health::Stub> stub_;
};

TEST_F(HealthServiceTest, ChecksEachService) {
  HealthCheckResponse response;
  for (const char* service : {"", "a"}) {
    ASSERT_TRUE(Check(service, &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  }
  health_.SetServing(true);
  ASSERT_TRUE(Check("a", &response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  EXPECT_EQ(Check("nobody", &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(HealthServiceTest, WatchTellsChangesOnly) {
  grpc::ClientContext context;
  HealthCheckRequest request;
  request.set_service("a");
  const auto watch = stub_->Watch(&context, request);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  health_.SetServing(false);  // no change: no message
  health_.SetServing(true);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  health_.SetServing(false);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(HealthServiceTest, WatchOfAnUnknownServiceStaysOpen) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  HealthCheckRequest request;
  request.set_service("nobody");
  const auto watch = stub_->Watch(&context, request);
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(HealthServiceTest, ManyWatchersAndStatusesAtOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this] {
      for (int round = 0; round < 10; ++round) {
        grpc::ClientContext context;
        const auto watch = stub_->Watch(&context, HealthCheckRequest());
        HealthCheckResponse response;
        EXPECT_TRUE(watch->Read(&response));
        context.TryCancel();
        watch->Finish();
      }
    });
  }
  for (int i = 0; i < 200; ++i) health_.SetServing(i % 2 == 0);
  for (std::thread& thread : threads) thread.join();
  HealthCheckResponse response;
  EXPECT_TRUE(Check("", &response).ok());
}

}  // namespace
}  // namespace monet::server
