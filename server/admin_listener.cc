#include "server/admin_listener.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "runtime/limits.h"

namespace monet::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 4> kLogLevels = {"debug", "info", "warn", "error"};
constexpr char kBearer[] = "Bearer ";

// A Host header that no foreign name can have: "localhost:1", "127.0.0.1", "[::1]:1".
bool IsOwnHost(std::string_view host) {
  const size_t colon = host.rfind(':');
  const bool has_port = colon != std::string_view::npos && !host.ends_with(']');
  std::string name(has_port ? host.substr(0, colon) : host);
  if (name.size() > 2 && name.front() == '[' && name.back() == ']') {
    name = name.substr(1, name.size() - 2);
  }
  ListenAddress address;
  address.host = std::move(name);
  return IsLoopback(address);
}

std::string LogLevel() {
  const auto level = spdlog::get_level();
  if (level == spdlog::level::err) return "error";
  if (level == spdlog::level::warn) return "warn";
  return level <= spdlog::level::debug ? "debug" : "info";
}

std::string Dump(const Json& json) {
  // File names are any bytes.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

struct AdminListener::Answer {
  int status = 200;
  Json body;

  static Answer Error(int status, std::string_view text) { return {status, {{"error", text}}}; }
};

struct AdminListener::Route {
  std::string method;
  std::string path;
  Answer (AdminListener::*handle)(const httplib::Request&) const;
};

const std::vector<AdminListener::Route>& AdminListener::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/health", &AdminListener::Health},
      {"POST", "/reload", &AdminListener::Reload},
      {"POST", "/drain", &AdminListener::Drain},
      {"GET", "/log-level", &AdminListener::GetLogLevel},
      {"PUT", "/log-level", &AdminListener::PutLogLevel},
  };
  return routes;
}

const AdminListener::Route* AdminListener::FindRoute(const httplib::Request& request) {
  for (const Route& route : Routes()) {
    if (route.path == request.path && route.method == request.method) return &route;
  }
  return nullptr;
}

AdminListener::AdminListener(AdminActions actions, const AdminToken* token)
    : actions_(std::move(actions)),
      token_(token),
      listener_({.request_bytes = limits::kMaxAdminRequestBytes}) {
  httplib::Server& http = listener_.http();
  // Before anything else of the request is looked at, its body included.
  http.set_pre_routing_handler(
      [this](const httplib::Request& request, httplib::Response& response) {
        const Answer refusal = Check(request);
        if (refusal.status == 200) return httplib::Server::HandlerResponse::Unhandled;
        spdlog::debug("admin: {} {} refused: {}", request.method, request.path, refusal.status);
        response.status = refusal.status;
        response.set_content(Dump(refusal.body), "application/json");
        if (refusal.status == 401) response.set_header("WWW-Authenticate", "Bearer");
        return httplib::Server::HandlerResponse::Handled;
      });
  http.set_default_headers({{"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}});
  for (const Route& route : Routes()) {
    const auto handle = [this, &route](const httplib::Request& request,
                                       httplib::Response& response) {
      Handle(route, request, &response);
    };
    if (route.method == "GET") http.Get(route.path, handle);
    // Without reading a body: httplib would wait for the end of one that no length announces.
    if (route.method == "POST") {
      http.Post(route.path, [handle](const httplib::Request& request, httplib::Response& response,
                                     const httplib::ContentReader&) { handle(request, response); });
    }
    if (route.method == "PUT") http.Put(route.path, handle);
  }
  // Called when the answer has been written: the process may end right after a drain began.
  http.set_logger([this](const httplib::Request& request, const httplib::Response& response) {
    if (request.path == "/drain" && response.status == 202) actions_.drain();
  });
  http.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (!response.body.empty()) return;  // one of ours
    const char* text = response.status == 413 ? "the request is too large" : "not a usable request";
    response.set_content(Dump({{"error", text}}), "application/json");
  });
  http.set_exception_handler(
      [](const httplib::Request& request, httplib::Response& response, const std::exception_ptr&) {
        spdlog::error("admin: {} {} failed", request.method, request.path);
        response.status = 500;
      });
}

AdminListener::~AdminListener() = default;

absl::Status AdminListener::Listen(const std::string& address) {
  MONET_ASSIGN_OR_RETURN(const ListenAddress parsed, ParseListenAddress(address));
  const absl::Status status = listener_.Start(parsed.host, parsed.port);
  if (!status.ok()) return InvalidArgument("--admin-listen {}: {}", address, Message(status));
  address_ = address.substr(0, address.rfind(':') + 1) + std::to_string(listener_.port());
  return absl::OkStatus();
}

AdminListener::Answer AdminListener::Check(const httplib::Request& request) const {
  if (request.has_header("Origin")) return Answer::Error(403, "not for browsers");
  if (token_ == nullptr) {
    if (request.get_header_value_count("Host") != 1 ||
        !IsOwnHost(request.get_header_value("Host"))) {
      return Answer::Error(403, "the Host is not this machine's");
    }
  } else {
    const std::string given = request.get_header_value("Authorization");
    if (!given.starts_with(kBearer) ||
        !token_->Matches(std::string_view(given).substr(sizeof(kBearer) - 1))) {
      return Answer::Error(401, "needs the administrator's token");
    }
  }
  const auto is_path = [&request](const Route& route) { return route.path == request.path; };
  if (std::none_of(Routes().begin(), Routes().end(), is_path)) {
    return Answer::Error(404, "there is nothing of that name");
  }
  if (FindRoute(request) == nullptr) return Answer::Error(405, "not with this method");
  if (request.method != "GET" && !request.has_header("X-Monet-Admin")) {
    return Answer::Error(403, "needs the header X-Monet-Admin");
  }
  return {};
}

void AdminListener::Handle(const Route& route, const httplib::Request& request,
                           httplib::Response* response) const {
  const Answer answer = (this->*route.handle)(request);
  if (request.method != "GET") {
    spdlog::info("admin: {} {} from {}: {}", request.method, request.path, request.remote_addr,
                 answer.status);
  }
  response->status = answer.status;
  response->set_content(Dump(answer.body), "application/json");
}

AdminListener::Answer AdminListener::Health(const httplib::Request&) const {
  Answer answer{200, actions_.health()};
  if (answer.body.value("state", "") != "serving") answer.status = 503;
  return answer;
}

AdminListener::Answer AdminListener::Reload(const httplib::Request&) const {
  Answer answer;
  answer.body["reloaded"] = Json::array();
  for (const Reloads::State& state : actions_.reloads->Run(ReloadTrigger::kRequest)) {
    Json entry = {{"name", state.name}, {"changed", state.changed}, {"summary", state.summary}};
    if (!state.error.empty()) {
      entry["error"] = state.error;
      answer.status = 422;
    }
    answer.body["reloaded"].push_back(std::move(entry));
  }
  return answer;
}

AdminListener::Answer AdminListener::Drain(const httplib::Request&) const {
  if (actions_.health().value("state", "") == "loading") {
    return Answer::Error(409, "the model is still loading");
  }
  return {202, {{"state", "draining"}}};
}

AdminListener::Answer AdminListener::GetLogLevel(const httplib::Request&) const {
  return {200, {{"level", LogLevel()}}};
}

AdminListener::Answer AdminListener::PutLogLevel(const httplib::Request& request) const {
  const Json body = Json::parse(request.body, nullptr, /*allow_exceptions=*/false);
  const bool shaped =
      body.is_object() && body.size() == 1 && body.contains("level") && body["level"].is_string();
  const std::string level = shaped ? body["level"].get<std::string>() : "";
  if (std::find(kLogLevels.begin(), kLogLevels.end(), level) == kLogLevels.end()) {
    return Answer::Error(400, R"(expected {"level": L} with L debug, info, warn or error)");
  }
  spdlog::set_level(spdlog::level::from_str(level));
  return {200, {{"level", level}}};
}

}  // namespace monet::server
