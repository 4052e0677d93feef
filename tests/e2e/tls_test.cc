// TLS on a real server: who gets in, and certificates that change under running streams.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/e2e/client.h"
#include "tests/server/certificate_writer.h"

namespace monet::e2e {
namespace {

using grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

grpc::StatusCode CallReflection(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  const auto call = stub.PrepareUnaryCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      grpc::ByteBuffer(), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return status.error_code();
}

class TlsTest : public ::testing::Test {
 protected:
  TlsTest() {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    Write("ca", clients_.pem());
    Renew({.common_name = "first"});
  }
  ~TlsTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return (directory_ / name).string(); }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(".new"), std::ios::binary) << text;
    std::filesystem::rename(Path(".new"), Path(name));
  }
  void Renew(const CertificateRequest& request) const {
    const IssuedCertificate issued = authority_.Issue(request);
    Write("cert", issued.certificate);
    Write("key", issued.key);
  }
  std::vector<std::string> Args(std::vector<std::string> more = {}) const {
    more.insert(more.end(), {"--tls-cert", Path("cert"), "--tls-key", Path("key"),
                             "--reload-interval", "1", "--health-listen", "127.0.0.1:0"});
    return ServerProcess::DemoArgs(more);
  }
  std::shared_ptr<grpc::ChannelCredentials> Credentials(const IssuedCertificate& own = {}) const {
    return grpc::SslCredentials({authority_.pem(), own.key, own.certificate});
  }
  // The common name that a new connection is shown; empty when there is none.
  std::string ServerName(const std::string& address, const IssuedCertificate& own = {}) const {
    Client client(address, Credentials(own));
    grpc::ClientContext context;
    v1::GetModelResponse response;
    if (!client.generation().GetModel(&context, v1::GetModelRequest(), &response).ok()) return "";
    const auto names = context.auth_context()->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME);
    return names.empty() ? "" : std::string(names[0].data(), names[0].size());
  }

  const std::filesystem::path directory_ =
      std::filesystem::path(::testing::TempDir()) / "monet-e2e-tls";
  const CertificateAuthority authority_{"authority"};
  const CertificateAuthority clients_{"clients"};
};

TEST_F(TlsTest, RenewsUnderRunningStreams) {
  ServerProcess server(Args());
  ASSERT_TRUE(server.WaitReady());
  EXPECT_EQ(ServerName(server.grpc_address()), "first");
  v1::GenerateResponse response;
  EXPECT_EQ(Client(server.grpc_address()).Generate(Greedy("x", 1), &response).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  const std::string expiry = "monet_certificate_expiry_timestamp_seconds";
  const double first_expiry = MetricSum(server.metrics_address(), expiry);
  EXPECT_GT(first_expiry, static_cast<double>(std::time(nullptr)));

  // A stream from before the change: nobody reads it until the certificates have changed.
  Client client(server.grpc_address(), Credentials());
  OpenStream stream(&client, Greedy("def get_queryset(self):\n    ", kManyTokens));
  ASSERT_TRUE(stream.ReadFirstToken());
  Write("cert", "half a certificate");
  EXPECT_TRUE(Eventually([&] {
    return MetricSum(server.metrics_address(), "monet_certificate_reload_failures_total") > 0;
  }));
  EXPECT_EQ(ServerName(server.grpc_address()), "first");
  Renew({.common_name = "second", .ends_in = 2 * 86400});
  EXPECT_TRUE(Eventually([&] { return ServerName(server.grpc_address()) == "second"; }));
  EXPECT_GT(MetricSum(server.metrics_address(), expiry), first_expiry + 80000);
  v1::Finish finish;
  EXPECT_TRUE(stream.ReadAll(&finish).ok());
  EXPECT_EQ(stream.tokens(), kManyTokens);
}

TEST_F(TlsTest, AsksClientsForCertificates) {
  ServerProcess server(Args({"--tls-client-ca", Path("ca")}));
  ASSERT_TRUE(server.WaitReady());
  EXPECT_EQ(ServerName(server.grpc_address()), "");
  EXPECT_EQ(ServerName(server.grpc_address(), authority_.Issue({.common_name = "other"})), "");
  EXPECT_EQ(ServerName(server.grpc_address(), clients_.Issue({.common_name = "acme"})), "first");
}

// What Kubernetes' probes speak.
TEST_F(TlsTest, ServesHealthInPlaintextAndNothingElse) {
  ServerProcess server(Args());
  ASSERT_TRUE(server.WaitReady());
  Client client(server.health_address());
  HealthCheckResponse::ServingStatus status = HealthCheckResponse::UNKNOWN;
  EXPECT_TRUE(client.Check("", &status).ok());
  EXPECT_EQ(status, HealthCheckResponse::SERVING);
  EXPECT_TRUE(client.Check("monet.v1.GenerationService", &status).ok());
  v1::GenerateResponse response;
  EXPECT_EQ(client.Generate(Greedy("x", 1), &response).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(CallReflection(client.channel()), grpc::StatusCode::UNIMPLEMENTED);

  Client main(server.grpc_address(), Credentials());
  OpenStream stream(&main, Greedy("def get_queryset(self):\n    ", kManyTokens));
  ASSERT_TRUE(stream.ReadFirstToken());
  server.Signal(SIGTERM);
  EXPECT_TRUE(Eventually([&] {
    return client.Check("", &status).ok() && status == HealthCheckResponse::NOT_SERVING;
  }));
}

TEST_F(TlsTest, RefusesBadFilesAtStart) {
  Write("key", authority_.Issue({}).key);
  for (const bool check : {false, true}) {
    auto args = Args();
    if (check) args.push_back("--check");
    const Exit exit = RunServer(args);
    EXPECT_EQ(exit.code, 2);
    EXPECT_THAT(exit.err, HasSubstr("tls_key " + Path("key") + ": is not the key"));
  }
}

TEST_F(TlsTest, ServesAnExpiredCertificateAndSaysSo) {
  Renew({.starts_in = -7200, .ends_in = -3600});
  ServerProcess server(Args());
  ASSERT_TRUE(server.WaitReady());
  const double expiry =
      MetricSum(server.metrics_address(), "monet_certificate_expiry_timestamp_seconds");
  EXPECT_GT(expiry, 0);
  EXPECT_LT(expiry, static_cast<double>(std::time(nullptr)));
  server.Signal(SIGTERM);
  EXPECT_THAT(server.Wait().err, HasSubstr("EXPIRED"));
}

}  // namespace
}  // namespace monet::e2e
