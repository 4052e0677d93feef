// The administrator's port of a real server: what it answers, whom it refuses, what it changes.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "tests/e2e/client.h"

namespace monet::e2e {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kToken[] = "correct-horse-battery-staple";
const httplib::Headers kAdmin = {{"X-Monet-Admin", "test"}};

httplib::Client Http(const ServerProcess& server) {
  httplib::Client client("http://" + server.admin_address());
  client.set_read_timeout(20);
  return client;
}

json Body(const httplib::Result& result) {
  return result ? json::parse(result->body, nullptr, false) : json();
}

std::vector<std::string> WithAdmin(std::vector<std::string> more = {}) {
  more.insert(more.end(), {"--admin-listen", "127.0.0.1:0"});
  return ServerProcess::DemoArgs(more);
}

// A copy of the demo's policies that a test may spoil.
class PolicyDirectory {
 public:
  PolicyDirectory() {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(MONET_SOURCE_DIR "/policies", path_,
                          std::filesystem::copy_options::recursive);
  }
  ~PolicyDirectory() { std::filesystem::remove_all(path_); }

  std::vector<std::string> ServerArgs(const std::string& interval) const {
    return {"--model",           MONET_SOURCE_DIR "/models/demo",
            "--policies",        path_.string(),
            "--listen",          "127.0.0.1:0",
            "--reload-interval", interval,
            "--admin-listen",    "127.0.0.1:0"};
  }
  // Version 2 of a policy removes what version 1 of another one removes.
  void AddVersion2(const std::string& name, const std::string& like) const {
    std::ifstream in(path_ / like / "1.yaml");
    std::string text{std::istreambuf_iterator<char>(in), {}};
    const auto replace = [&text](const std::string& from, const std::string& to) {
      const size_t at = text.find(from);
      ASSERT_NE(at, std::string::npos) << from;
      text.replace(at, from.size(), to);
    };
    replace("name: " + like, "name: " + name);
    replace("version: 1", "version: 2");
    replace("1.mask", "2.mask");
    std::filesystem::copy(path_ / like / "1.mask", path_ / name / "2.mask");
    std::ofstream(path_ / name / ".next") << text;
    std::filesystem::rename(path_ / name / ".next", path_ / name / "2.yaml");
  }
  void Break() const {
    std::filesystem::create_directories(path_ / "broken");
    std::ofstream(path_ / "broken/1.yaml") << "format: 1\nformat: 1\n";
  }
  void Mend() const { std::filesystem::remove_all(path_ / "broken"); }

 private:
  const std::filesystem::path path_ =
      std::filesystem::path(::testing::TempDir()) / "monet-admin-policies";
};

TEST(Admin, TellsWhatTheServerDoes) {
  ServerProcess server(WithAdmin());
  ASSERT_TRUE(server.WaitReady());
  const auto result = Http(server).Get("/health");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200);
  EXPECT_EQ(result->get_header_value("Content-Type"), "application/json");
  const json health = Body(result);
  EXPECT_EQ(health["state"], "serving");
  EXPECT_EQ(health["policies"], 12);
  EXPECT_EQ(health["calls"], 0);
  EXPECT_EQ(health["model"]["name"], "demo");
  EXPECT_GE(health["engine"]["last_step_age_seconds"], 0.0);
  EXPECT_LT(health["engine"]["last_step_age_seconds"], 5.0);
  EXPECT_EQ(health["reloads"][0]["name"], "policies");
  EXPECT_EQ(health["reloads"][0]["summary"], "12 policies");
}

TEST(Admin, ChangesTheLogLevel) {
  ServerProcess server(WithAdmin({"--log-level", "warn"}));
  ASSERT_TRUE(server.WaitReady());
  auto http = Http(server);
  EXPECT_EQ(Body(http.Get("/log-level"))["level"], "warn");
  Client client(server.grpc_address());
  v1::GenerateResponse response;
  ASSERT_TRUE(client.Generate(Greedy("x", 1), &response).ok());
  EXPECT_EQ(Body(http.Put("/log-level", kAdmin, R"({"level": "debug"})", "application/json")),
            json({{"level", "debug"}}));
  ASSERT_TRUE(client.Generate(Greedy("x", 1), &response).ok());
  EXPECT_EQ(Body(http.Get("/log-level"))["level"], "debug");
  for (const char* bad : {"", "{", "[]", R"({"level": 1})", R"({"level": "loud"})",
                          R"({"level": "info", "more": 1})", "\xff"}) {
    const auto refused = http.Put("/log-level", kAdmin, bad, "application/json");
    ASSERT_TRUE(refused) << bad;
    EXPECT_EQ(refused->status, 400) << bad;
  }
  server.Signal(SIGTERM);
  const std::string log = server.Wait().err;
  const size_t first = log.find("Generate OK");
  EXPECT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("Generate OK", first + 1), std::string::npos) << "logged before: " << log;
}

TEST(Admin, RefusesWhatIsNotAsked) {
  ServerProcess server(WithAdmin());
  ASSERT_TRUE(server.WaitReady());
  const auto status = [&](const std::string& method, const std::string& path,
                          httplib::Headers headers = kAdmin, const std::string& body = "") {
    httplib::Request request;
    request.method = method;
    request.path = path;
    request.headers = std::move(headers);
    request.body = body;
    const auto result = Http(server).send(request);
    return result ? result->status : -1;
  };
  EXPECT_EQ(status("GET", "/nothing"), 404);
  EXPECT_EQ(status("GET", "/"), 404);
  EXPECT_EQ(status("GET", "/health/"), 404);
  EXPECT_EQ(status("GET", "/" + std::string(4000, 'a')), 404);
  EXPECT_EQ(status("GET", "/drain"), 405);
  EXPECT_EQ(status("DELETE", "/health"), 405);
  // A page in somebody's browser, directly or through a name that leads here.
  EXPECT_EQ(status("POST", "/drain", {}), 403);
  EXPECT_EQ(status("POST", "/drain", {{"X-Monet-Admin", "1"}, {"Origin", "null"}}), 403);
  EXPECT_EQ(status("GET", "/health", {{"Origin", "https://evil.example"}}), 403);
  EXPECT_EQ(status("GET", "/health", {{"Host", "evil.example:80"}}), 403);
  EXPECT_EQ(status("GET", "/health", {{"Host", "localhost.evil.example"}}), 403);
  EXPECT_EQ(status("GET", "/health", {{"Host", "localhost:1"}}), 200);
  EXPECT_EQ(status("GET", "/health", {{"Host", "[::1]"}}), 200);
  // More than an administrator can have to say.
  EXPECT_EQ(status("PUT", "/log-level", kAdmin, std::string(1 << 20, ' ')), 413);
  EXPECT_NE(status("GET", "/health", {{"X-Long", std::string(100000, 'a')}}), 200);
  EXPECT_EQ(status("GET", "/health"), 200);
}

TEST(Admin, TakesTheTokenOnly) {
  const std::string file = ::testing::TempDir() + "monet-admin-token";
  std::ofstream(file) << kToken << "\n";
  ServerProcess server(WithAdmin({"--admin-token-file", file}));
  ASSERT_TRUE(server.WaitReady());
  const auto status = [&](const std::string& authorization) {
    const auto result = Http(server).Get("/health", {{"Authorization", authorization}});
    return result ? result->status : -1;
  };
  const std::string token = kToken;
  EXPECT_EQ(status("Bearer " + token), 200);
  for (const std::string& wrong :
       {std::string(), std::string("Bearer "), "Bearer " + token.substr(1), "Bearer x" + token,
        "Bearer " + token + "x", token, "Basic " + token, "Bearer  " + token}) {
    EXPECT_EQ(status(wrong), 401) << wrong;
  }
  EXPECT_EQ(Http(server).Get("/nothing")->status, 401);  // tells strangers nothing
  std::ofstream(file) << "another-token-of-the-administrator";
  const httplib::Headers headers = {{"Authorization", "Bearer " + token}, {"X-Monet-Admin", "1"}};
  EXPECT_EQ(Http(server).Post("/reload", headers)->status, 200);
  EXPECT_EQ(status("Bearer " + token), 401);
  EXPECT_EQ(status("Bearer another-token-of-the-administrator"), 200);
}

TEST(Admin, NeedsATokenWhereOthersCanReachIt) {
  const std::string file = ::testing::TempDir() + "monet-admin-bad-token";
  const auto error = [](const std::vector<std::string>& more) {
    const Exit exit = RunServer(ServerProcess::DemoArgs(more));
    EXPECT_EQ(exit.code, 2);
    return exit.err;
  };
  EXPECT_THAT(error({"--admin-listen", "0.0.0.0:0"}), HasSubstr("admin_token_file"));
  EXPECT_THAT(error({"--admin-token-file", file}), HasSubstr("admin_listen"));
  std::ofstream(file) << "short";
  EXPECT_THAT(error({"--admin-listen", "0.0.0.0:0", "--admin-token-file", file}),
              HasSubstr(file + ": holds no token"));
  std::filesystem::remove(file);
  EXPECT_THAT(error({"--admin-listen", "0.0.0.0:0", "--admin-token-file", file}),
              HasSubstr("cannot be read"));
  EXPECT_THAT(error({"--admin-listen", SharedServer().metrics_address()}),
              HasSubstr("cannot listen there"));
}

// Connections that say nothing, or say it slowly, keep nobody else out for long, and inference not
// at all.
TEST(Admin, StandsSilentConnections) {
  ServerProcess server(WithAdmin());
  ASSERT_TRUE(server.WaitReady());
  const std::string address = server.admin_address();
  std::vector<int> sockets;
  for (int i = 0; i < 8; ++i) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    sockets.push_back(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(connect(sockets.back(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    ASSERT_EQ(send(sockets.back(), "GET", 3, 0), 3);
  }
  Client client(server.grpc_address());
  v1::GenerateResponse response;
  EXPECT_TRUE(client.Generate(Greedy("x", 4), &response).ok());
  for (const int socket : sockets) close(socket);
  const auto result = Http(server).Get("/health");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200);
}

// As `curl -X POST` sends it: no body and no length of one.
std::string PostWithoutLength(const std::string& address, const std::string& path) {
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  EXPECT_EQ(connect(connection, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  const std::string request =
      "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nX-Monet-Admin: 1\r\n\r\n";
  EXPECT_EQ(send(connection, request.data(), request.size(), 0),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  char bytes[4096];
  ssize_t count = 0;
  while ((count = recv(connection, bytes, sizeof(bytes), 0)) > 0) {
    answer.append(bytes, static_cast<size_t>(count));
  }
  close(connection);
  return answer;
}

TEST(Admin, TakesAPostWithoutABody) {
  ServerProcess server(WithAdmin());
  ASSERT_TRUE(server.WaitReady());
  EXPECT_THAT(PostWithoutLength(server.admin_address(), "/reload"), HasSubstr("HTTP/1.1 200 OK"));
  EXPECT_THAT(PostWithoutLength(server.admin_address(), "/drain"), HasSubstr("HTTP/1.1 202"));
  EXPECT_EQ(server.Wait().code, 0);
}

// As SIGTERM: what runs is finished to its last token, and the process ends with 0.
TEST(Admin, DrainsAsTheSignalDoes) {
  ServerProcess server(WithAdmin());
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  OpenStream stream(&client, Greedy("def get_queryset(self):\n    ", kManyTokens));
  ASSERT_TRUE(stream.ReadFirstToken());
  auto http = Http(server);
  const auto accepted = http.Post("/drain", kAdmin);
  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->status, 202);
  ASSERT_TRUE(Eventually([&] { return Body(http.Get("/health"))["state"] == "draining"; }));
  EXPECT_EQ(Body(http.Get("/health"))["calls"], 1);
  v1::GenerateResponse response;
  EXPECT_EQ(client.Generate(Greedy("x", 1), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::Finish finish;
  EXPECT_TRUE(stream.ReadAll(&finish).ok());
  EXPECT_EQ(stream.tokens(), kManyTokens);
  EXPECT_EQ(server.Wait().code, 0);
}

// A request that runs keeps its mask; the next one has the new version; a broken directory changes
// nothing, and says so.
TEST(Reload, LeavesRunningRequestsAlone) {
  PolicyDirectory policies;
  ServerProcess server(policies.ServerArgs("0"));
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  v1::GenerateRequest request = Greedy("def get_queryset(self):\n    ", kManyTokens);
  request.mutable_mask()->add_policies("no-python");
  const StreamResult before = client.Stream(request);
  ASSERT_TRUE(before.status.ok());
  ASSERT_EQ(before.header.mask().policies(0).version(), 1);

  std::atomic<bool> stop = false;
  std::atomic<int> failed = 0;
  std::thread load([&] {
    Client other(server.grpc_address());
    v1::GenerateRequest small = Greedy("x", 2);
    small.mutable_mask()->add_policies("no-java");
    v1::GenerateResponse response;
    while (!stop) failed += other.Generate(small, &response).ok() ? 0 : 1;
  });
  // Started before the change, read after it.
  grpc::ClientContext context;
  v1::GenerateStreamRequest outer;
  *outer.mutable_request() = request;
  const auto running = client.generation().GenerateStream(&context, outer);
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(running->Read(&message));
  EXPECT_EQ(message.header().mask().digest(), before.header.mask().digest());

  policies.Break();
  auto result = Http(server).Post("/reload", kAdmin);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 422);
  EXPECT_THAT(result->body, HasSubstr("broken/1.yaml"));
  EXPECT_EQ(MetricSum(server.metrics_address(), "monet_policy_reload_failures_total"), 1);
  EXPECT_THAT(Http(server).Get("/health")->body, HasSubstr("broken/1.yaml"));
  v1::GetPolicyResponse policy;
  EXPECT_TRUE(client.GetPolicy("no-python@1", false, &policy).ok());

  policies.Mend();
  policies.AddVersion2("no-python", "no-java");
  result = Http(server).Post("/reload", kAdmin);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200) << result->body;
  EXPECT_THAT(result->body, HasSubstr("added no-python@2"));
  EXPECT_EQ(MetricSum(server.metrics_address(), "monet_policy_info"), 13);

  const StreamResult after = client.Stream(request);
  std::string text;
  while (running->Read(&message)) text += message.delta().text();
  EXPECT_TRUE(running->Finish().ok());
  EXPECT_EQ(text, before.completion.text());
  stop = true;
  load.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(after.header.mask().policies(0).version(), 2);
  EXPECT_NE(after.header.mask().digest(), before.header.mask().digest());
}

TEST(Reload, WatchesTheDirectory) {
  PolicyDirectory policies;
  ServerProcess server(policies.ServerArgs("1"));
  ASSERT_TRUE(server.WaitReady());
  Client client(server.grpc_address());
  v1::GetPolicyResponse policy;
  EXPECT_EQ(client.GetPolicy("no-python@2", false, &policy).error_code(),
            grpc::StatusCode::NOT_FOUND);
  policies.AddVersion2("no-python", "no-java");
  EXPECT_TRUE(Eventually([&] { return client.GetPolicy("no-python@2", false, &policy).ok(); }));
}

}  // namespace
}  // namespace monet::e2e
