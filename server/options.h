// The server's options: parsed once in main, checked, and passed down const. settings.h has the
// table that gives the command line, the YAML file and --help.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace monet::server {

struct ServerOptions {
  std::filesystem::path model;                 // checkpoint directory; required
  std::filesystem::path policies;              // policy directory; empty: no policies are known
  std::string listen = "127.0.0.1:50051";      // HOST:PORT or unix:PATH; port 0: a free one
  std::string metrics_listen = "127.0.0.1:0";  // HOST:PORT; port 0: a free one
  std::string model_name;                      // empty: the name of the model's directory
  std::filesystem::path tenants;               // tenants.yaml; empty: every caller may do all
  std::filesystem::path keys;                  // keys.yaml
  std::string usage_log;                       // file of JSON lines, "-" for stdout; empty: none
  // What a mandatory policy that cannot be had does: "unready" or "refuse_tenant".
  std::string on_unresolved_mandatory = "unready";
  std::string health_listen;                         // plaintext, health only; empty: none
  std::string admin_listen;                          // HOST:PORT; empty: no administration
  std::filesystem::path admin_token_file;            // its credential; empty: loopback only
  std::filesystem::path tls_cert;                    // PEM; empty: plaintext
  std::filesystem::path tls_key;                     // PEM
  std::filesystem::path tls_client_ca;               // PEM; empty: clients need no certificate
  std::string tls_client_auth = "require";           // or optional
  std::chrono::milliseconds reload_interval{10000};  // 0: only on request
  bool allow_anonymous = false;                      // serve callers without a key off loopback
  int32_t threads = 0;                         // computing threads; 0: from cgroup and affinity
  int64_t kv_tokens = 0;                       // tokens of key/value cache; 0: from memory
  int32_t max_running = 32;                    // sequences in one step
  int32_t max_queue = 256;                     // requests waiting for admission
  int32_t mask_slots = 8;                      // distinct masks running at a time
  int32_t max_step_tokens = 64;                // rows of one step
  std::chrono::milliseconds step_target{100};  // prefill chunks follow it
  std::chrono::milliseconds drain_timeout{30000};
  std::chrono::milliseconds stall_timeout{60000};  // a stream's client takes nothing
  std::string chat_template = "none";              // one of kChatTemplateNames
  std::string log_level = "info";
};

// Applies the YAML text on top of *options. Errors: INVALID_ARGUMENT naming line and key, for
// anything that is not one flat map of known keys, each given once, and for an empty text, which
// may be a file cut short ("{}" says that nothing is set).
absl::Status ApplyYaml(std::string_view yaml, ServerOptions* options);

// What the command line asked for. kCheck: load as for serving, say what was found, and exit.
struct CommandLine {
  enum class Action : uint8_t { kServe, kCheck, kPrintAndExit };
  Action action = Action::kServe;
  std::string text;  // kPrintAndExit: for stdout
  ServerOptions options;
};

// Defaults, then --config FILE, then flags; checked by CheckOptions.
// Errors: INVALID_ARGUMENT with one line for stderr.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

// What no single setting can check: required ones, and that only a loopback address is served
// without --allow-anonymous while there are no tenants.
absl::Status CheckOptions(const ServerOptions& options);

// A listening address. HOST may be a name, an IPv4 address or an IPv6 address in brackets.
struct ListenAddress {
  std::string host;      // without brackets; empty for unix:
  int32_t port = 0;      // 0: a free one
  bool is_unix = false;  // unix:PATH
};
absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text);
// The address that a listener got: `address` with the real port. Errors: INVALID_ARGUMENT naming
// `flag` when it could not listen: not `started`, or no port where there should be one.
absl::StatusOr<std::string> BoundAddress(std::string_view flag, const std::string& address,
                                         bool started, int32_t port);
// HOST:PORT with another port.
std::string WithPort(const std::string& address, int32_t port);
// True when only this machine can reach it. Names other than "localhost" count as reachable.
bool IsLoopback(const ListenAddress& address);

}  // namespace monet::server
