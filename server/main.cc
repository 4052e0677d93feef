// bin/monet-server: options, ports, model, signals; exit codes as in --help.
#include <fmt/format.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>

#include "runtime/tenant/mandatory_policies.h"
#include "runtime/tenant/named_policies.h"
#include "server/greeting.h"
#include "server/options.h"
#include "server/server.h"
#include "server/serving_model.h"
#include "server/signals.h"
#include "server/tenant_watcher.h"
#include "server/tls_files.h"
#include "server/usage.h"

namespace monet::server {
namespace {

constexpr int kExitBadStart = 2;

// One line that a terminal shows as it is, whatever names of files the message holds.
int BadStart(std::string message) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  fmt::print(stderr, "monet-server: {}\n", message);
  return kExitBadStart;
}

// Everything logs to stderr through spdlog. gRPC and Protobuf write texts of their own, some of
// them for what a client did: those are for debugging only.
void StartLogging(const std::string& level) {
  auto logger = spdlog::stderr_color_mt("monet");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v", spdlog::pattern_time_type::utc);
  spdlog::set_default_logger(logger);
  spdlog::set_level(spdlog::level::from_str(level));
  gpr_set_log_function([](gpr_log_func_args* args) { spdlog::debug("grpc: {}", args->message); });
  google::protobuf::SetLogHandler(nullptr);
}

// monetctl beside this binary when it is there, else by its name. Relative where that is how one
// reaches it from here; but in / , where services and containers start, nobody types the commands.
std::string MonetctlCommand() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return "monetctl";
  const auto beside = self.parent_path() / "monetctl";
  if (!std::filesystem::exists(beside, error)) return "monetctl";
  const auto here = std::filesystem::current_path(error);
  if (error || here == here.root_path()) return beside.string();
  const auto relative = beside.lexically_relative(here);
  return relative.empty() || *relative.begin() == ".." ? beside.string() : relative.string();
}

// The first signal, for the main thread to wait for.
class ShutdownRequest {
 public:
  void Set() {
    std::lock_guard lock(mutex_);
    set_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

void PrintAddresses(const Server& server) {
  fmt::print("monet-server {}\n  {:<12}{}\n  {:<12}http://{}/metrics\n", MONET_VERSION, "grpc",
             server.grpc_address(), "metrics", server.metrics_address());
  if (!server.health_address().empty()) {
    fmt::print("  {:<12}{}\n", "health", server.health_address());
  }
  if (!server.admin_address().empty()) {
    fmt::print("  {:<12}http://{}\n", "admin", server.admin_address());
  }
}

// Everything that a start needs but the ports.
int Check(const ServerOptions& options) {
  fmt::print("monet-server {}\nchecking {}\n", MONET_VERSION, options.model.string());
  std::fflush(stdout);
  const auto tenants = LoadTenants(options);
  if (!tenants.ok()) return BadStart(Message(tenants.status()));
  if (!options.tls_cert.empty()) {
    const auto tls = ReadTlsFiles({options.tls_cert, options.tls_key, options.tls_client_ca});
    if (!tls.ok()) return BadStart(Message(tls.status()));
  }
  if (!options.usage_log.empty()) {
    const absl::Status usage_log = CheckUsageLog(options.usage_log);
    if (!usage_log.ok()) return BadStart(Message(usage_log));
  }
  if (!options.admin_token_file.empty()) {
    const auto token = AdminToken::Load(options.admin_token_file);
    if (!token.ok()) return BadStart(Message(token.status()));
  }
  const auto model = LoadServingModel(options, [](const StepReport&) {});
  if (!model.ok()) return BadStart(Message(model.status()));
  const auto unresolved = FindUnresolved(*(*tenants)->Current(), *(*model)->policies->Current());
  LogWarnings(
      WarnOfNames(*(*tenants)->Current(), (*model)->policies->Current().get(), (*tenants)->file()));
  if (!unresolved.empty()) return BadStart(Describe(unresolved));
  fmt::print("{}{}ok\n", Summary(**model), PolicyList(*(*model)->policies->Current()));
  return 0;
}

int Run(int argc, char** argv) {
  auto command = ParseCommandLine(argc, argv);
  if (!command.ok()) return BadStart(Message(command.status()));
  if (command->action == CommandLine::Action::kPrintAndExit) {
    fmt::print("{}", command->text);
    return 0;
  }
  const ServerOptions& options = command->options;
  StartLogging(options.log_level);
  if (command->action == CommandLine::Action::kCheck) return Check(options);
  BlockShutdownSignals();
  // Outlives main: the signal thread uses it to the end of the process.
  static ShutdownRequest& shutdown = *new ShutdownRequest();
  static std::atomic<bool> loaded = false;

  // Never destroyed: after a drain nothing is left to end but the metrics port, whose threads take
  // two seconds to stop, and after a bad start nothing has begun.
  Server& server = *new Server(options);
  server.OnDrainAsked([] {
    spdlog::info("asked to drain");
    shutdown.Set();
  });
  absl::Status status = server.Listen();
  if (!status.ok()) return BadStart(Message(status));
  WatchShutdownSignals([](int signal) {
    if (!loaded) {
      spdlog::info("signal {} while loading: nothing to drain", signal);
      std::_Exit(0);
    }
    spdlog::info("signal {}: draining", signal);
    shutdown.Set();
  });
  PrintAddresses(server);
  fmt::print("loading {}\n", options.model.string());
  std::fflush(stdout);
  status = server.Load();
  if (!status.ok()) return BadStart(Message(status));
  loaded = true;
  fmt::print("{}", Greeting(server.model(), options, server.grpc_address(), MonetctlCommand()));
  std::fflush(stdout);
  server.WhenReady([&server] {
    fmt::print("ready\n");
    std::fflush(stdout);
    spdlog::info("ready: {} at {}", server.model().system_fingerprint, server.grpc_address());
  });

  shutdown.Wait();
  if (server.Drain()) {
    spdlog::info("drained");
  } else {
    spdlog::warn("drain timeout: the rest was ended with UNAVAILABLE");
  }
  return 0;
}

}  // namespace
}  // namespace monet::server

int main(int argc, char** argv) {
  int code = 0;
  try {
    code = monet::server::Run(argc, argv);
  } catch (const std::exception& error) {
    code = monet::server::BadStart(error.what());
  }
  std::fflush(nullptr);
  std::_Exit(code);
}
