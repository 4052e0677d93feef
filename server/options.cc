#include "server/options.h"

#include <algorithm>
#include <charconv>

#include "runtime/limits.h"

namespace monet::server {
namespace {

absl::Status ParseInt(const char* key, std::string_view text, int64_t low, int64_t high,
                      int64_t* out) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < low || value > high) {
    return InvalidArgument("{} is \"{}\", expected an integer from {} to {}", key, text, low, high);
  }
  *out = value;
  return absl::OkStatus();
}

template <typename T>
absl::Status SetInt(const char* key, std::string_view text, int64_t low, int64_t high, T* out) {
  int64_t value = 0;
  MONET_RETURN_IF_ERROR(ParseInt(key, text, low, high, &value));
  *out = static_cast<T>(value);
  return absl::OkStatus();
}

absl::Status SetText(const char* key, std::string_view text, std::string* out) {
  if (text.empty()) return InvalidArgument("{} is empty", key);
  if (text.size() > 4096) return InvalidArgument("{} has {} bytes, limit 4096", key, text.size());
  *out = text;
  return absl::OkStatus();
}

absl::Status SetPath(const char* key, std::string_view text, std::filesystem::path* out) {
  std::string value;
  MONET_RETURN_IF_ERROR(SetText(key, text, &value));
  *out = value;
  return absl::OkStatus();
}

absl::Status SetAddress(const char* key, std::string_view text, std::string* out) {
  const auto address = ParseListenAddress(text);
  if (!address.ok()) return InvalidArgument("{} {}", key, Message(address.status()));
  return SetText(key, text, out);
}

absl::Status SetMetricsListen(ServerOptions* o, std::string_view text) {
  MONET_RETURN_IF_ERROR(SetAddress("metrics_listen", text, &o->metrics_listen));
  // Debian's CivetWeb is built without IPv6.
  if (ParseListenAddress(text)->is_unix || text.starts_with('[')) {
    return InvalidArgument("metrics_listen is \"{}\", expected HOST:PORT without IPv6", text);
  }
  return absl::OkStatus();
}

absl::Status SetModelName(ServerOptions* o, std::string_view text) {
  if (!std::all_of(text.begin(), text.end(), IsModelNameCharacter) ||
      text.size() > limits::kMaxModelNameBytes) {
    return InvalidArgument(
        "model_name must be 1 to {} visible ASCII characters without quotes and backslashes",
        limits::kMaxModelNameBytes);
  }
  return SetText("model_name", text, &o->model_name);
}

absl::Status SetAllowAnonymous(ServerOptions* o, std::string_view text) {
  if (text != "true" && text != "false") {
    return InvalidArgument("allow_anonymous is \"{}\", expected true or false", text);
  }
  o->allow_anonymous = text == "true";
  return absl::OkStatus();
}

absl::Status SetStepTarget(ServerOptions* o, std::string_view text) {
  int64_t ms = 0;
  MONET_RETURN_IF_ERROR(ParseInt("step_target_ms", text, 1, 60000, &ms));
  o->step_target = std::chrono::milliseconds(ms);
  return absl::OkStatus();
}

absl::Status SetDrainTimeout(ServerOptions* o, std::string_view text) {
  int64_t seconds = 0;
  MONET_RETURN_IF_ERROR(ParseInt("drain_timeout", text, 0, 86400, &seconds));
  o->drain_timeout = std::chrono::seconds(seconds);
  return absl::OkStatus();
}

absl::Status SetStallTimeout(ServerOptions* o, std::string_view text) {
  int64_t seconds = 0;
  MONET_RETURN_IF_ERROR(ParseInt("stall_timeout", text, 1, 86400, &seconds));
  o->stall_timeout = std::chrono::seconds(seconds);
  return absl::OkStatus();
}

absl::Status SetLogLevel(ServerOptions* o, std::string_view text) {
  for (const char* level : {"debug", "info", "warn", "error"}) {
    if (text == level) {
      o->log_level = level;
      return absl::OkStatus();
    }
  }
  return InvalidArgument("log_level is \"{}\", expected debug, info, warn or error", text);
}

}  // namespace

const std::vector<Setting>& Settings() {
  using O = ServerOptions;
  using Text = std::string_view;
  static const std::vector<Setting> settings = {
      {"model", "DIR", "Checkpoint directory: config.json, safetensors, tokenizer.model. Required.",
       [](O* o, Text t) { return SetPath("model", t, &o->model); }},
      {"policies", "DIR",
       "Policy directory (NAME/VERSION.yaml and its mask). Without it no policy is known.",
       [](O* o, Text t) { return SetPath("policies", t, &o->policies); }},
      {"listen", "ADDR",
       "gRPC address, HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one. "
       "Default 127.0.0.1:50051.",
       [](O* o, Text t) { return SetAddress("listen", t, &o->listen); }},
      {"metrics_listen", "ADDR",
       "Prometheus address, HOST:PORT (no IPv6); port 0 takes a free one, printed at start. "
       "Default 127.0.0.1:0.",
       SetMetricsListen},
      {"allow_anonymous", nullptr,
       "Serve callers without a key on an address that other machines can reach. Default false.",
       SetAllowAnonymous},
      {"model_name", "NAME",
       "Name of the model in the API. Default: the model directory's name, with '_' for what "
       "is not visible ASCII.",
       SetModelName},
      {"threads", "N",
       "Computing threads, 1 to 1024. Default: the CPUs that cgroup quota and affinity allow.",
       [](O* o, Text t) { return SetInt("threads", t, 1, 1024, &o->threads); }},
      {"kv_tokens", "TOKENS",
       "Tokens of key/value cache shared by all running requests, 1 to 2^31-1; at least the "
       "model's context. Default: 32 contexts, or what a quarter of the free memory holds.",
       [](O* o, Text t) { return SetInt("kv_tokens", t, 1, INT32_MAX, &o->kv_tokens); }},
      {"max_running", "N", "Requests computed at the same time, 1 to 1024. Default 32.",
       [](O* o, Text t) { return SetInt("max_running", t, 1, 1024, &o->max_running); }},
      {"max_queue", "N",
       "Requests that wait; one more is RESOURCE_EXHAUSTED. 1 to 100000. Default 256.",
       [](O* o, Text t) { return SetInt("max_queue", t, 1, 100000, &o->max_queue); }},
      {"mask_slots", "N", "Distinct masks running at the same time, 1 to 256. Default 8.",
       [](O* o, Text t) { return SetInt("mask_slots", t, 1, 256, &o->mask_slots); }},
      {"max_step_tokens", "TOKENS",
       "Most tokens of one step of the model, 1 to 4096; at least max_running. Default 64.",
       [](O* o, Text t) { return SetInt("max_step_tokens", t, 1, 4096, &o->max_step_tokens); }},
      {"step_target_ms", "MS",
       "Time that one step should take; prompts are cut into chunks to meet it. 1 to 60000 "
       "milliseconds. Default 100.",
       SetStepTarget},
      {"drain_timeout", "SECONDS",
       "Time that running requests get to finish after SIGTERM, 0 to 86400 seconds. Default 30.",
       SetDrainTimeout},
      {"stall_timeout", "SECONDS",
       "A stream whose client takes nothing for this long is ended, so that it does not keep its "
       "place and its cache. 1 to 86400 seconds. Default 60.",
       SetStallTimeout},
      {"log_level", "LEVEL", "debug, info, warn or error. Logs go to stderr. Default info.",
       SetLogLevel},
  };
  return settings;
}

bool IsModelNameCharacter(char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; }

std::string FlagOf(const Setting& setting) {
  std::string flag = std::string("--") + setting.key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text) {
  ListenAddress address;
  if (text.starts_with("unix:")) {
    if (text.size() == 5) return InvalidArgument("is \"{}\", expected unix:PATH", text);
    address.is_unix = true;
    return address;
  }
  const size_t colon = text.rfind(':');
  std::string_view host = text.substr(0, colon == std::string_view::npos ? 0 : colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const bool plain = bracketed || host.find_first_of(":[]/ ") == std::string_view::npos;
  int64_t port = 0;
  if (host.empty() || !plain || !ParseInt("port", text.substr(colon + 1), 0, 65535, &port).ok()) {
    return InvalidArgument("is \"{}\", expected HOST:PORT with a port from 0 to 65535", text);
  }
  address.host = host;
  address.port = static_cast<int32_t>(port);
  return address;
}

bool IsLoopback(const ListenAddress& address) {
  if (address.is_unix || address.host == "localhost" || address.host == "::1") return true;
  // Only dotted numbers: "127.example.com" is a name that may resolve to anything.
  return address.host.starts_with("127.") &&
         address.host.find_first_not_of("0123456789.") == std::string::npos;
}

absl::Status CheckOptions(const ServerOptions& options) {
  if (options.model.empty()) return InvalidArgument("--model DIR is required");
  if (options.max_step_tokens < options.max_running) {
    return InvalidArgument("max_step_tokens is {}, less than max_running, which is {}",
                           options.max_step_tokens, options.max_running);
  }
  MONET_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(options.listen));
  if (!IsLoopback(address) && !options.allow_anonymous) {
    return InvalidArgument(
        "--listen {} can be reached from other machines and no tenants are configured; give "
        "--allow-anonymous to serve everybody, or listen on 127.0.0.1",
        options.listen);
  }
  return absl::OkStatus();
}

}  // namespace monet::server
