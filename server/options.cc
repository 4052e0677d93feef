#include "server/options.h"

#include <charconv>

namespace monet::server {

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
  const std::string_view digits = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (host.empty() || !plain || error != std::errc() || end != digits.data() + digits.size()) {
    return InvalidArgument("is \"{}\", expected HOST:PORT with a port from 0 to 65535", text);
  }
  address.host = host;
  address.port = port;
  return address;
}

absl::StatusOr<std::string> BoundAddress(std::string_view flag, const std::string& address,
                                         bool started, int32_t port) {
  MONET_ASSIGN_OR_RETURN(const ListenAddress parsed, ParseListenAddress(address));
  if (!started || (port <= 0 && !parsed.is_unix)) {
    return InvalidArgument("{} {}: cannot listen there; is the port in use?", flag, address);
  }
  return parsed.is_unix ? address : WithPort(address, port);
}

std::string WithPort(const std::string& address, int32_t port) {
  return address.substr(0, address.rfind(':') + 1) + std::to_string(port);
}

bool IsLoopback(const ListenAddress& address) {
  if (address.is_unix || address.host == "localhost" || address.host == "::1") return true;
  // Only dotted numbers: "127.example.com" is a name that may resolve to anything.
  return address.host.starts_with("127.") &&
         address.host.find_first_not_of("0123456789.") == std::string::npos;
}

namespace {

absl::Status CheckTls(const ServerOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return InvalidArgument("tls_cert and tls_key belong together, {} is missing",
                           options.tls_cert.empty() ? "tls_cert" : "tls_key");
  }
  if (!options.tls_client_ca.empty() && options.tls_cert.empty()) {
    return InvalidArgument("tls_client_ca needs tls_cert and tls_key");
  }
  if (options.tls_client_auth == "optional" && options.tls_client_ca.empty()) {
    return InvalidArgument("tls_client_auth: optional needs tls_client_ca");
  }
  return absl::OkStatus();
}

absl::Status CheckAdmin(const ServerOptions& options) {
  if (options.admin_listen.empty()) {
    if (options.admin_token_file.empty()) return absl::OkStatus();
    return InvalidArgument("admin_token_file is given without admin_listen");
  }
  MONET_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(options.admin_listen));
  if (IsLoopback(address) || !options.admin_token_file.empty()) return absl::OkStatus();
  return InvalidArgument(
      "--admin-listen {} can be reached from other machines; give admin_token_file, or listen on "
      "127.0.0.1",
      options.admin_listen);
}

}  // namespace

absl::Status CheckOptions(const ServerOptions& options) {
  if (options.model.empty()) return InvalidArgument("--model DIR is required");
  if (options.max_step_tokens < options.max_running) {
    return InvalidArgument("max_step_tokens is {}, less than max_running, which is {}",
                           options.max_step_tokens, options.max_running);
  }
  MONET_RETURN_IF_ERROR(CheckTls(options));
  MONET_RETURN_IF_ERROR(CheckAdmin(options));
  MONET_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(options.listen));
  if (options.tenants.empty() && !options.keys.empty()) {
    return InvalidArgument("--keys is given without --tenants: a key is a tenant's");
  }
  if (!options.tenants.empty()) {
    if (!options.allow_anonymous) return absl::OkStatus();
    return InvalidArgument(
        "--allow-anonymous is given with --tenants; callers without a key are those of a tenant "
        "anonymous");
  }
  if (!IsLoopback(address) && !options.allow_anonymous) {
    return InvalidArgument(
        "--listen {} can be reached from other machines and no tenants are configured; give "
        "--allow-anonymous to serve everybody, or listen on 127.0.0.1",
        options.listen);
  }
  return absl::OkStatus();
}

}  // namespace monet::server
