#include "server/certificates.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/identity.h"
#include "tests/server/certificate_writer.h"

namespace monet::server {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Names = std::vector<std::string>;

Names Values(const grpc::AuthContext& context, const char* property) {
  Names values;
  for (const grpc::string_ref& value : context.FindPropertyValues(property)) {
    values.emplace_back(value.data(), value.size());
  }
  return values;
}

// Remembers who called last.
class WhoCalls final : public Health::Service {
 public:
  grpc::Status Check(grpc::ServerContext* context, const HealthCheckRequest*,
                     HealthCheckResponse*) override {
    common_names = Values(*context->auth_context(), GRPC_X509_CN_PROPERTY_NAME);
    alternative_names = Values(*context->auth_context(), GRPC_X509_SAN_PROPERTY_NAME);
    subjects = CredentialsOf(*context).subjects;
    authenticated = context->auth_context()->IsPeerAuthenticated();
    certificates = Values(*context->auth_context(), GRPC_X509_PEM_CERT_PROPERTY_NAME).size();
    return grpc::Status::OK;
  }
  grpc::Status Watch(grpc::ServerContext* context, const HealthCheckRequest*,
                     grpc::ServerWriter<HealthCheckResponse>* writer) override {
    while (!context->IsCancelled() && writer->Write(HealthCheckResponse())) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return grpc::Status::OK;
  }

  Names common_names;
  Names alternative_names;
  Names subjects;
  bool authenticated = false;
  size_t certificates = 0;
};

class CertificatesTest : public ::testing::Test {
 protected:
  CertificatesTest() {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    WriteIdentity(authority_.Issue({.common_name = "first"}));
  }
  ~CertificatesTest() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
    certificates_.reset();
    std::filesystem::remove_all(directory_);
  }

  // By a rename, as careful operators do.
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / "new", std::ios::binary) << text;
    std::filesystem::rename(directory_ / "new", directory_ / name);
  }
  void WriteIdentity(const IssuedCertificate& issued) const {
    Write("cert", issued.certificate);
    Write("key", issued.key);
  }

  TlsPaths Paths(bool with_clients) const {
    return {directory_ / "cert", directory_ / "key",
            with_clients ? directory_ / "clients" : std::filesystem::path()};
  }
  std::string LoadError(bool with_clients = false) const {
    const auto loaded =
        Certificates::Load(Paths(with_clients), Certificates::ClientAuth::kRequired, nullptr);
    return loaded.ok() ? "no error" : Message(loaded.status());
  }

  void StartServer(bool with_clients = false,
                   Certificates::ClientAuth auth = Certificates::ClientAuth::kRequired) {
    if (with_clients) Write("clients", clients_.pem());
    auto loaded = Certificates::Load(Paths(with_clients), auth, [this](const TlsFiles& files) {
      observed_.push_back(files.chain.not_after);
    });
    ASSERT_TRUE(loaded.ok()) << Message(loaded.status());
    certificates_ = *std::move(loaded);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", certificates_->credentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
  }

  std::shared_ptr<grpc::Channel> Connect(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    return grpc::CreateCustomChannel(address_, credentials, arguments);
  }
  std::shared_ptr<grpc::Channel> ConnectTls(const IssuedCertificate& own = {}) const {
    return Connect(grpc::SslCredentials({authority_.pem(), own.key, own.certificate}));
  }

  // The name in the certificate that the server showed; empty when there was no connection.
  std::string ServerName(const std::shared_ptr<grpc::Channel>& channel) const {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    HealthCheckResponse response;
    const grpc::Status status =
        Health::NewStub(channel)->Check(&context, HealthCheckRequest(), &response);
    if (!status.ok()) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
      return "";
    }
    const Names names = Values(*context.auth_context(), GRPC_X509_CN_PROPERTY_NAME);
    return names.empty() ? "plaintext" : names.front();
  }

  std::string ReloadError() const {
    const auto outcome = certificates_->Reload(ReloadTrigger::kRequest);
    return outcome.ok() ? "no error" : Message(outcome.status());
  }

  // Until a new connection sees `name`.
  bool BecomesVisible(const std::string& name) const {
    for (int i = 0; i < 100; ++i) {
      if (ServerName(ConnectTls()) == name) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }

  const std::filesystem::path directory_ =
      std::filesystem::path(::testing::TempDir()) / "monet-certificates";
  const CertificateAuthority authority_{"authority"};
  const CertificateAuthority clients_{"clients"};
  WhoCalls service_;
  std::vector<int64_t> observed_;
  std::unique_ptr<Certificates> certificates_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(CertificatesTest, ServesTlsAndNothingElse) {
  StartServer();
  EXPECT_EQ(ServerName(ConnectTls()), "first");
  EXPECT_FALSE(service_.authenticated);
  EXPECT_EQ(ServerName(Connect(grpc::InsecureChannelCredentials())), "");
  EXPECT_EQ(ServerName(Connect(grpc::SslCredentials({clients_.pem(), "", ""}))), "");
}

TEST_F(CertificatesTest, RequiresAClientCertificateOfTheAuthority) {
  StartServer(/*with_clients=*/true);
  EXPECT_EQ(ServerName(ConnectTls()), "");
  EXPECT_EQ(ServerName(ConnectTls(authority_.Issue({.common_name = "stranger"}))), "");
  EXPECT_EQ(ServerName(ConnectTls(clients_.Issue({.common_name = "late", .ends_in = -60}))), "");
  EXPECT_EQ(ServerName(ConnectTls(clients_.Issue(
                {.common_name = "acme", .alternative_names = "DNS:a.example,URI:spiffe://a/b"}))),
            "first");
  EXPECT_TRUE(service_.authenticated);
  EXPECT_THAT(service_.common_names, ElementsAre("acme"));
  EXPECT_THAT(service_.alternative_names, UnorderedElementsAre("a.example", "spiffe://a/b"));
}

TEST_F(CertificatesTest, ASubjectIsNeverOfAnotherKind) {
  StartServer(/*with_clients=*/true);
  EXPECT_EQ(ServerName(ConnectTls(clients_.Issue(
                {.common_name = "x",
                 .alternative_names = "DNS:CN=acme,DNS:a.example,URI:spiffe://a/b,IP:10.0.0.1"}))),
            "first");
  EXPECT_THAT(service_.alternative_names, Contains("CN=acme")) << "the authority did sign it";
  EXPECT_THAT(service_.subjects,
              UnorderedElementsAre("CN=x", "a.example", "spiffe://a/b", "10.0.0.1"));
}

// A caller's certificate is either verified or not there.
TEST_F(CertificatesTest, OptionalNeverReportsWhatDidNotVerify) {
  StartServer(/*with_clients=*/true, Certificates::ClientAuth::kOptional);
  EXPECT_EQ(ServerName(ConnectTls(clients_.Issue({.common_name = "acme"}))), "first");
  EXPECT_THAT(service_.common_names, ElementsAre("acme"));
  EXPECT_EQ(ServerName(ConnectTls()), "first");
  EXPECT_FALSE(service_.authenticated);
  EXPECT_EQ(service_.certificates, 0);
  EXPECT_THAT(service_.common_names, IsEmpty());
  EXPECT_THAT(service_.alternative_names, IsEmpty());
  const CertificateAuthority impostor("clients");  // the same name, another key
  EXPECT_EQ(ServerName(ConnectTls(impostor.Issue({.common_name = "acme"}))), "");
  EXPECT_EQ(ServerName(ConnectTls(clients_.Issue({.common_name = "late", .ends_in = -60}))), "");
  EXPECT_THAT(service_.common_names, IsEmpty());
}

TEST_F(CertificatesTest, NamesTheSettingAndTheFileOfABadStart) {
  const IssuedCertificate good = authority_.Issue({});
  const IssuedCertificate other = authority_.Issue({});
  const auto error = [&](const std::string& certificate, const std::string& key) {
    WriteIdentity({certificate, key});
    return LoadError();
  };
  EXPECT_EQ(error(good.certificate, good.key), "no error");
  EXPECT_THAT(error(good.certificate, other.key), HasSubstr("key: is not the key of the"));
  EXPECT_THAT(error(good.certificate, EncryptKey(good.key)), HasSubstr("is encrypted"));
  EXPECT_THAT(error(good.certificate, ""), HasSubstr("tls_key " + directory_.string()));
  EXPECT_THAT(error(good.certificate, good.certificate), HasSubstr("no PEM private key"));
  EXPECT_THAT(error("", good.key), HasSubstr("tls_cert " + directory_.string()));
  EXPECT_THAT(error("no certificate", good.key), HasSubstr("holds no PEM certificate"));
  const std::string half = good.certificate.substr(0, good.certificate.size() / 2);
  EXPECT_THAT(error(half, good.key), HasSubstr("tls_cert"));
  EXPECT_THAT(error(good.certificate + half, good.key), HasSubstr("certificate 2"));
  const IssuedCertificate weak = authority_.Issue({.rsa_bits = 1024});
  EXPECT_THAT(error(weak.certificate, weak.key), HasSubstr("too small"));
  WriteIdentity(good);
  EXPECT_THAT(LoadError(/*with_clients=*/true), HasSubstr("tls_client_ca"));
  Write("clients", good.key);
  EXPECT_THAT(LoadError(/*with_clients=*/true), HasSubstr("holds no PEM certificate"));
  std::filesystem::remove(directory_ / "key");
  EXPECT_THAT(LoadError(), HasSubstr("cannot be read"));
}

// The operator may have nothing else; the clock may be wrong.
TEST_F(CertificatesTest, StartsWithAnExpiredCertificate) {
  WriteIdentity(authority_.Issue({.starts_in = -7200, .ends_in = -3600}));
  StartServer();
  ASSERT_EQ(observed_.size(), 1);
  EXPECT_LT(observed_[0], std::time(nullptr));
  EXPECT_EQ(ServerName(ConnectTls()), "");  // the client's decision
  WriteIdentity(authority_.Issue({.common_name = "renewed"}));
  EXPECT_EQ(ReloadError(), "no error");
  EXPECT_TRUE(BecomesVisible("renewed"));
  EXPECT_GT(observed_.back(), std::time(nullptr));
}

TEST_F(CertificatesTest, KeepsTheLastGoodWhateverIsWritten) {
  StartServer();
  const IssuedCertificate next = authority_.Issue({.common_name = "next"});
  Write("cert", next.certificate);  // half of the pair
  EXPECT_THAT(ReloadError(), HasSubstr("is not the key of the certificate"));
  Write("cert", next.certificate.substr(0, 200));
  EXPECT_THAT(ReloadError(), HasSubstr("tls_cert"));
  WriteIdentity(authority_.Issue({.common_name = "old", .starts_in = -7200, .ends_in = -3600}));
  EXPECT_THAT(ReloadError(), HasSubstr("which is not now"));
  std::filesystem::remove(directory_ / "cert");
  EXPECT_THAT(ReloadError(), HasSubstr("cannot be read"));
  // Longer than gRPC takes to look at its files.
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  EXPECT_EQ(ServerName(ConnectTls()), "first");
  EXPECT_EQ(observed_.size(), 1);
  WriteIdentity(next);
  EXPECT_EQ(ReloadError(), "no error");
  EXPECT_TRUE(BecomesVisible("next"));
  EXPECT_EQ(observed_.size(), 2);
}

TEST_F(CertificatesTest, ForgetsAnAuthorityThatIsTakenAway) {
  StartServer(/*with_clients=*/true);
  const IssuedCertificate client = clients_.Issue({.common_name = "acme"});
  EXPECT_EQ(ServerName(ConnectTls(client)), "first");
  const CertificateAuthority successor("successor");
  Write("clients", successor.pem());
  EXPECT_EQ(ReloadError(), "no error");
  const IssuedCertificate next = successor.Issue({.common_name = "acme"});
  int tries = 0;
  while (ServerName(ConnectTls(next)).empty() && ++tries < 100) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_LT(tries, 100);
  EXPECT_EQ(ServerName(ConnectTls(client)), "");
}

// Certificates change while clients connect and a stream runs: nobody notices.
TEST_F(CertificatesTest, ChangesUnderLoad) {
  StartServer();
  grpc::ClientContext context;
  const auto open = ConnectTls();
  const auto stream = Health::NewStub(open)->Watch(&context, HealthCheckRequest());
  HealthCheckResponse message;
  ASSERT_TRUE(stream->Read(&message));

  std::atomic<bool> stop = false;
  std::atomic<int> connections = 0;
  std::atomic<int> failures = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        ++connections;
        if (ServerName(ConnectTls()).empty()) ++failures;
      }
    });
  }
  for (const char* name : {"second", "third"}) {
    WriteIdentity(authority_.Issue({.common_name = name}));
    EXPECT_EQ(ReloadError(), "no error");
    EXPECT_TRUE(BecomesVisible(name));
    EXPECT_TRUE(stream->Read(&message));
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(failures, 0) << "of " << connections;
  EXPECT_GT(connections, 10);
  EXPECT_EQ(ServerName(open), "first");  // the old connection lives on
  context.TryCancel();
}

}  // namespace
}  // namespace monet::server
