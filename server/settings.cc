#include "server/settings.h"

#include <algorithm>

#include "runtime/base/visible_ascii.h"
#include "runtime/limits.h"
#include "server/chat_template.h"

namespace monet::server {
namespace {

absl::Status CheckAddress(std::string_view text) { return ParseListenAddress(text).status(); }

absl::Status CheckMetricsAddress(std::string_view text) {
  MONET_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(text));
  // Debian's CivetWeb is built without IPv6.
  if (address.is_unix || text.starts_with('[')) {
    return InvalidArgument("is \"{}\", expected HOST:PORT without IPv6", text);
  }
  return absl::OkStatus();
}

absl::Status CheckAdminAddress(std::string_view text) {
  MONET_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(text));
  if (address.is_unix) return InvalidArgument("is \"{}\", expected HOST:PORT", text);
  return absl::OkStatus();
}

absl::Status CheckModelName(std::string_view text) {
  if (!std::all_of(text.begin(), text.end(), IsNameCharacter) ||
      text.size() > limits::kMaxModelNameBytes) {
    return InvalidArgument(
        "must be 1 to {} visible ASCII characters without quotes and backslashes",
        limits::kMaxModelNameBytes);
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<Setting>& Settings() {
  using namespace setting;
  using O = ServerOptions;
  static const std::vector<Setting> settings = {
      Path("model", "DIR", &O::model,
           "Checkpoint directory: config.json, safetensors, tokenizer.model. Required."),
      Path("policies", "DIR", &O::policies,
           "Policy directory (NAME/VERSION.yaml and its mask). Without it no policy is known."),
      Text("listen", "ADDR", &O::listen,
           "gRPC address, HOST:PORT, [IPV6]:PORT or unix:PATH; port 0 takes a free one.", "",
           CheckAddress),
      Text("metrics_listen", "ADDR", &O::metrics_listen,
           "Prometheus address, HOST:PORT (no IPv6); port 0 takes a free one, printed at start.",
           "", CheckMetricsAddress),
      Path(
          "tenants", "FILE", &O::tenants,
          "tenants.yaml: who may call, what is removed for each, what each may ask for. Read again "
          "when it changes. Without it every caller may do everything."),
      Path("keys", "FILE", &O::keys,
           "keys.yaml: hashes of the tenants' API keys (monetctl key new). Read again when it "
           "changes."),
      Text("usage_log", "FILE", &O::usage_log,
           "File that a JSON line is appended to for every finished call of a tenant: who, what, "
           "how "
           "many tokens; - is standard output. Without it none is kept.",
           "none"),
      OneOf("on_unresolved_mandatory", "ACTION", {"unready", "refuse_tenant"},
            &O::on_unresolved_mandatory,
            "What happens while a tenant's mandatory policy cannot be had: the server says that it "
            "is not ready, or serves the other tenants. That tenant's calls are refused either "
            "way."),
      Path("tls_cert", "FILE", &O::tls_cert,
           "PEM file with the server's certificate and those that issued it: gRPC speaks TLS only. "
           "Needs tls_key."),
      Path("tls_key", "FILE", &O::tls_key, "PEM file with the private key of tls_cert."),
      Path("tls_client_ca", "FILE", &O::tls_client_ca,
           "PEM file with the authorities whose client certificates are accepted; needs tls_cert. "
           "Without it clients are not asked for certificates."),
      OneOf("tls_client_auth", "WORD", {"require", "optional"}, &O::tls_client_auth,
            "With tls_client_ca: whether a client may come without a certificate. One that does "
            "not verify is never accepted."),
      Text("health_listen", "ADDR", &O::health_listen,
           "Another address that serves grpc.health.v1 alone, without TLS, for Kubernetes' probes; "
           "HOST:PORT, [IPV6]:PORT or unix:PATH.",
           "", CheckAddress),
      Text("admin_listen", "ADDR", &O::admin_listen,
           "Address for administration over HTTP (monetctl admin): health, reload, drain, log "
           "level; HOST:PORT or [IPV6]:PORT. Off without it. Needs admin_token_file unless it is a "
           "loopback address.",
           "", CheckAdminAddress),
      Path("admin_token_file", "FILE", &O::admin_token_file,
           "File with the administrator's token, 16 to 1024 visible ASCII characters."),
      Seconds("reload_interval", {0, 86400}, &O::reload_interval,
              "How often policies and certificates are looked at for changes; 0: never."),
      Switch("allow_anonymous", &O::allow_anonymous,
             "Serve callers without a key on an address that other machines can reach."),
      Text("model_name", "NAME", &O::model_name, "Name of the model in the API.",
           "the model directory's name, with '_' for what is not visible ASCII", CheckModelName),
      Integer("threads", "", {1, 1024}, &O::threads, "Computing threads.",
              "the CPUs that cgroup quota and affinity allow"),
      Integer(
          "kv_tokens", "tokens", {1, INT32_MAX}, &O::kv_tokens,
          "Tokens of key/value cache shared by all running requests; at least the model's "
          "context.",
          "32 contexts, or what the memory leaves after everything else (a quarter of it where no "
          "cgroup limits the memory)"),
      Integer("max_running", "", {1, 1024}, &O::max_running, "Requests computed at the same time."),
      Integer("max_queue", "", {1, 100000}, &O::max_queue,
              "Requests that wait; one more is RESOURCE_EXHAUSTED."),
      Integer("mask_slots", "", {1, 256}, &O::mask_slots,
              "Distinct masks running at the same time."),
      Integer("max_step_tokens", "tokens", {1, 4096}, &O::max_step_tokens,
              "Most tokens of one step of the model; at least max_running."),
      Milliseconds("step_target_ms", {1, 60000}, &O::step_target,
                   "Time that one step should take; prompts are cut into chunks to meet it."),
      Seconds("drain_timeout", {0, 86400}, &O::drain_timeout,
              "Time that running requests get to finish after SIGTERM."),
      Seconds("stall_timeout", {1, 86400}, &O::stall_timeout,
              "A stream whose client takes nothing for this long is ended, so that it does not "
              "keep its place and its cache."),
      OneOf("chat_template", "NAME", {kChatTemplateNames.begin(), kChatTemplateNames.end()},
            &O::chat_template,
            "How a conversation becomes a prompt: llama2 ([INST] and <<SYS>>, for Monet's chat "
            "models) or none, and conversations are refused."),
      OneOf("log_level", "LEVEL", {"debug", "info", "warn", "error"}, &O::log_level,
            "debug, info, warn or error. Logs go to stderr."),
  };
  return settings;
}

}  // namespace monet::server
