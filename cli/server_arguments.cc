#include "cli/server_arguments.h"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "cli/options.h"
#include "cli/text_input.h"

namespace monet::cli {
namespace {

// Longest key; metadata of a call has 16 KiB in all.
constexpr size_t kMaxKeyBytes = 4096;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Empty where there is no home.
std::string DefaultConfigPath() {
  if (const std::string path = Environment("MONETCTL_CONFIG"); !path.empty()) return path;
  const std::string home = Environment("HOME");
  return home.empty() ? "" : home + "/.config/monetctl/config.yaml";
}

absl::StatusOr<std::string> KeyOf(const Profile& profile) {
  if (!profile.key_file.empty()) return ReadKeyFile(profile.key_file);
  if (!profile.key_env.empty()) {
    std::string key = Environment(profile.key_env.c_str());
    if (key.empty()) {
      return InvalidArgument("the profile's key_env names {}, which is not set", profile.key_env);
    }
    return key;
  }
  return profile.key.empty() ? Environment("MONET_KEY") : profile.key;
}

// Never says any of the key itself.
absl::Status CheckKey(std::string_view key) {
  if (key.size() > kMaxKeyBytes) {
    return InvalidArgument("the key has {} bytes, limit {}", key.size(), kMaxKeyBytes);
  }
  for (const char c : key) {
    if (c <= ' ' || c > '~') return InvalidArgument("the key has characters that no key can have");
  }
  return absl::OkStatus();
}

absl::Status ReadTls(const Profile& profile, ServerOptions* options) {
  options->tls = profile.tls;
  if (!profile.tls) {
    if (profile.ca.empty() && profile.cert.empty() && profile.cert_key.empty()) {
      return absl::OkStatus();
    }
    return InvalidArgument("--ca, --cert and --cert-key need --tls");
  }
  if (profile.cert.empty() != profile.cert_key.empty()) {
    return InvalidArgument("--cert and --cert-key need each other");
  }
  for (const auto& [path, pem] :
       {std::pair{&profile.ca, &options->ca_pem}, std::pair{&profile.cert, &options->cert_pem},
        std::pair{&profile.cert_key, &options->cert_key_pem}}) {
    if (path->empty()) continue;
    MONET_ASSIGN_OR_RETURN(*pem, ReadInput(*path));
    if (pem->find("-----BEGIN ") == std::string::npos) {
      return InvalidArgument("'{}' is no PEM file", *path);
    }
  }
  return absl::OkStatus();
}

}  // namespace

ServerArguments::ServerArguments(CLI::App* app) {
  constexpr char kGroup[] = "Connection";
  server_ = AddValue(app, "--server", "ADDR",
                     "Server to call, HOST:PORT. Default: the profile's, else MONET_SERVER,\n"
                     "else 127.0.0.1:50051");
  timeout_ = AddValue(app, "--timeout", "SECONDS",
                      "Most seconds for the whole command, then DEADLINE_EXCEEDED.\n"
                      "Default: no limit, but 5 s to connect");
  profile_ = AddValue(app, "--profile", "NAME",
                      "Call the server of this name in the file of profiles, with its key\n"
                      "and TLS settings. Default: the file's default, unless --server or\n"
                      "MONET_SERVER names a server");
  config_ = AddValue(app, "--config", "FILE",
                     "File of profiles. Default: MONETCTL_CONFIG, else\n"
                     "~/.config/monetctl/config.yaml");
  key_ = AddValue(app, "--key", "KEY",
                  "Key to send; other users may see it in the list of processes, so\n"
                  "rather --key-file or MONET_KEY. Default: the profile's, else MONET_KEY");
  key_file_ = AddValue(app, "--key-file", "FILE", "File with the key to send")->excludes(key_);
  tls_option_ = app->add_flag("--tls", tls_, "Encrypt the connection, and check the server");
  ca_ = AddValue(app, "--ca", "FILE",
                 "PEM file of authorities to trust, with --tls. Default: the system's");
  cert_ = AddValue(app, "--cert", "FILE", "PEM file with your certificate, with --tls");
  cert_key_ = AddValue(app, "--cert-key", "FILE", "PEM file with the private key of --cert");
  insecure_option_ =
      app->add_flag("--insecure", insecure_, "Send the key unencrypted to another machine");
  for (CLI::Option* option : {server_, timeout_, profile_, config_, key_, key_file_, ca_, cert_,
                              cert_key_, tls_option_, insecure_option_}) {
    option->group(kGroup);
  }
}

absl::StatusOr<Profile> ServerArguments::ReadProfile(bool server_named) const {
  MONET_ASSIGN_OR_RETURN(const auto name, TextOf(profile_));
  MONET_ASSIGN_OR_RETURN(const auto config, TextOf(config_));
  const std::string path = config.value_or(DefaultConfigPath());
  if (!name && !config && (server_named || path.empty())) return Profile();
  // A file that nobody asked for need not be there.
  std::error_code ignored;
  const bool asked_for = name || config || !Environment("MONETCTL_CONFIG").empty();
  if (!asked_for && !std::filesystem::exists(path, ignored)) return Profile();
  MONET_ASSIGN_OR_RETURN(const Profiles profiles, ReadProfiles(path));
  if (!name && server_named) return Profile();
  const std::string& wanted = name ? *name : profiles.default_profile;
  if (!name && wanted.empty()) return Profile();
  const auto found = profiles.by_name.find(wanted);
  if (found == profiles.by_name.end()) {
    return InvalidArgument("--profile '{}' is not in '{}'", wanted, path);
  }
  return found->second;
}

absl::Status ServerArguments::ApplyFlags(Profile* profile) const {
  const std::pair<CLI::Option*, std::string*> texts[] = {{server_, &profile->server},
                                                         {ca_, &profile->ca},
                                                         {cert_, &profile->cert},
                                                         {cert_key_, &profile->cert_key}};
  for (const auto& [option, target] : texts) {
    MONET_ASSIGN_OR_RETURN(const auto text, TextOf(option));
    if (text) *target = *text;
  }
  MONET_ASSIGN_OR_RETURN(const auto key, TextOf(key_));
  MONET_ASSIGN_OR_RETURN(const auto key_file, TextOf(key_file_));
  if (key || key_file) {
    profile->key = key.value_or("");
    profile->key_file = key_file.value_or("");
    profile->key_env.clear();
    if (profile->key.empty() && profile->key_file.empty()) {
      return InvalidArgument("{} is empty", key ? "--key" : "--key-file");
    }
  }
  profile->tls = profile->tls || tls_;
  profile->insecure = profile->insecure || insecure_;
  return absl::OkStatus();
}

absl::StatusOr<ServerOptions> ServerArguments::Read() const {
  const std::string environment_server = Environment("MONET_SERVER");
  MONET_ASSIGN_OR_RETURN(Profile profile, ReadProfile(/*server_named=*/server_->count() > 0 ||
                                                      !environment_server.empty()));
  MONET_RETURN_IF_ERROR(ApplyFlags(&profile));
  ServerOptions options;
  options.address = profile.server;
  if (options.address.empty() && server_->count() == 0) {
    options.address = environment_server.empty() ? kDefaultServer : environment_server;
  }
  MONET_RETURN_IF_ERROR(RequireUtf8("MONET_SERVER", options.address));
  MONET_ASSIGN_OR_RETURN(options.timeout_s, FiniteOf(timeout_));
  if (options.timeout_s.has_value() && *options.timeout_s <= 0) {
    return InvalidArgument("--timeout is {:g} seconds, must be above 0", *options.timeout_s);
  }
  MONET_RETURN_IF_ERROR(ReadTls(profile, &options));
  MONET_ASSIGN_OR_RETURN(options.key, KeyOf(profile));
  MONET_RETURN_IF_ERROR(CheckKey(options.key));
  if (!options.key.empty() && !options.tls && !profile.insecure && !IsLocal(options.address)) {
    return InvalidArgument(
        "the key is not sent unencrypted to {}: give --tls, or --insecure where the network is "
        "trusted",
        options.address);
  }
  return options;
}

}  // namespace monet::cli
