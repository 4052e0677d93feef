// monetctl admin: what the administrator's port of a server offers.
#include <httplib.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "cli/commands.h"
#include "cli/exit_status.h"
#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl admin health --admin 127.0.0.1:50053\n"
    "  monetctl admin reload --admin 127.0.0.1:50053 --token-file admin.token\n"
    "  monetctl admin log-level debug --admin 127.0.0.1:50053";

constexpr size_t kMaxTokenFileBytes = 4096;

// --admin and --token-file.
struct AdminArguments {
  explicit AdminArguments(CLI::App* app)
      : address(
            AddValue(app, "--admin", "ADDR", "HOST:PORT of the server's admin_listen; required")),
        token_file(AddValue(app, "--token-file", "FILE",
                            "File with the administrator's token, if the server has one")) {
    address->required();
  }

  CLI::Option* address;
  CLI::Option* token_file;
};

struct Target {
  std::string host;
  int port = 0;
  httplib::Headers headers = {{"X-Monet-Admin", "monetctl"}};
};

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  MONET_ASSIGN_OR_RETURN(std::string token, ReadInput(path));
  if (token.size() > kMaxTokenFileBytes) {
    return InvalidArgument("--token-file {}: has more than {} bytes", path, kMaxTokenFileBytes);
  }
  if (token.ends_with('\n')) token.pop_back();
  if (token.ends_with('\r')) token.pop_back();
  // It goes into a header: a line end in it would begin another one.
  for (const char c : token) {
    if (c <= ' ' || c >= 0x7f) return InvalidArgument("--token-file {}: holds no token", path);
  }
  return token;
}

absl::StatusOr<Target> ReadTarget(const AdminArguments& arguments) {
  MONET_ASSIGN_OR_RETURN(const auto address, TextOf(arguments.address));
  Target target;
  const size_t colon = address->rfind(':');
  const std::string digits = colon == std::string::npos ? "" : address->substr(colon + 1);
  target.host = address->substr(0, colon);
  if (target.host.starts_with('[') && target.host.ends_with(']')) {
    target.host = target.host.substr(1, target.host.size() - 2);
  }
  const bool is_number = !digits.empty() && digits.size() <= 5 &&
                         digits.find_first_not_of("0123456789") == std::string::npos;
  target.port = is_number ? std::stoi(digits) : 0;
  if (target.host.empty() || target.port < 1 || target.port > 65535) {
    return InvalidArgument("--admin is \"{}\", expected HOST:PORT", *address);
  }
  MONET_ASSIGN_OR_RETURN(const auto token_file, TextOf(arguments.token_file));
  if (token_file) {
    MONET_ASSIGN_OR_RETURN(const std::string token, ReadToken(*token_file));
    target.headers.emplace("Authorization", "Bearer " + token);
  }
  return target;
}

absl::StatusCode CodeOf(int http_status) {
  switch (http_status) {
    case 400:
      return absl::StatusCode::kInvalidArgument;
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 409:
    case 422:
      return absl::StatusCode::kFailedPrecondition;
    case 503:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kInternal;
  }
}

// What a status other than 2xx says: the server's error, or that of the first reload that failed.
std::string Reason(int http_status, const nlohmann::json& body) {
  const auto text_of = [](const nlohmann::json& object, const char* key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
  };
  if (std::string error = text_of(body, "error"); !error.empty()) return error;
  if (body.is_object() && body.contains("reloaded")) {
    for (const auto& entry : body["reloaded"]) {
      if (std::string error = text_of(entry, "error"); !error.empty()) return error;
    }
  }
  const std::string state = text_of(body, "state");
  return state.empty() ? fmt::format("HTTP status {}", http_status)
                       : fmt::format("the server is {}", state);
}

absl::Status RunAdmin(const AdminArguments& arguments, const std::string& method,
                      const std::string& path, const std::string& body, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const Target target, ReadTarget(arguments));
  httplib::Client client(target.host, target.port);
  client.set_connection_timeout(5);
  client.set_read_timeout(60);  // a reload reads many files
  const httplib::Result result = method == "GET" ? client.Get(path, target.headers)
                                 : method == "POST"
                                     ? client.Post(path, target.headers, body, "application/json")
                                     : client.Put(path, target.headers, body, "application/json");
  if (!result) {
    return MarkCallFailed(Error(absl::StatusCode::kUnavailable, "no answer from {}:{} ({})",
                                target.host, target.port, httplib::to_string(result.error())));
  }
  const auto json = nlohmann::json::parse(result->body, nullptr, /*allow_exceptions=*/false);
  // Reports are results even when they tell of something bad; errors are not.
  if (json.is_object() && !json.contains("error")) {
    MONET_RETURN_IF_ERROR(session.console->Write(result->body));
  }
  if (result->status / 100 == 2) {
    if (json.is_object()) return absl::OkStatus();
    return BadAnswer("it is no JSON object");
  }
  return MarkCallFailed(Error(CodeOf(result->status), "{}", Reason(result->status, json)));
}

}  // namespace

Command AddAdmin(CLI::App* root) {
  CLI::App* app = root->add_subcommand(
      "admin", "Ask a server's administration port: health, reload, drain, log-level");
  app->footer(kExample);
  app->require_subcommand(1);
  struct Row {
    const char* name;
    const char* description;
    const char* method;
  };
  auto run = std::make_shared<std::function<absl::Status(const Session&)>>();
  for (const Row& row :
       {Row{"health", "What the server is doing; exit code 1 unless it serves", "GET"},
        Row{"reload", "Read policies, certificates and the rest again", "POST"},
        Row{"drain", "End the server as SIGTERM does", "POST"}}) {
    CLI::App* sub = app->add_subcommand(row.name, row.description);
    auto arguments = std::make_shared<AdminArguments>(sub);
    sub->callback([run, arguments, row] {
      *run = [arguments, row](const Session& session) {
        return RunAdmin(*arguments, row.method, std::string("/") + row.name, "", session);
      };
    });
  }
  CLI::App* sub = app->add_subcommand("log-level", "Show the level of the log, or set it");
  auto arguments = std::make_shared<AdminArguments>(sub);
  auto level = std::make_shared<std::string>();
  sub->add_option("LEVEL", *level, "debug, info, warn or error")->type_name("");
  sub->callback([run, arguments, level] {
    *run = [arguments, level](const Session& session) {
      const std::string body = nlohmann::json({{"level", *level}})
                                   .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      return RunAdmin(*arguments, level->empty() ? "GET" : "PUT", "/log-level", body, session);
    };
  });
  return {app, [run](const Session& session) { return (*run)(session); }};
}

}  // namespace monet::cli
