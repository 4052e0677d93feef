// Options that say which server to call and how. Where they come from, first match:
//   server  --server, then the profile, then MONET_SERVER, then 127.0.0.1:50051
//   key     --key or --key-file, then the profile, then MONET_KEY, then none
//   TLS     the options, then the profile
// The profile is --profile, or the file's default where neither --server nor MONET_SERVER names a
// server: the key of a default profile goes to no server but its own.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/connection.h"
#include "cli/profiles.h"
#include "runtime/base/status.h"

namespace monet::cli {

inline constexpr char kDefaultServer[] = "127.0.0.1:50051";

class ServerArguments {
 public:
  explicit ServerArguments(CLI::App* app);
  // Reads the files too. Errors: INVALID_ARGUMENT naming the option or the file.
  absl::StatusOr<ServerOptions> Read() const;

 private:
  absl::StatusOr<Profile> ReadProfile(bool server_named) const;
  // What the flags say, over what the profile says.
  absl::Status ApplyFlags(Profile* profile) const;

  CLI::Option *server_, *timeout_;
  CLI::Option *config_, *profile_;
  CLI::Option *key_, *key_file_;
  CLI::Option *tls_option_, *ca_, *cert_, *cert_key_, *insecure_option_;
  bool tls_ = false;
  bool insecure_ = false;
};

}  // namespace monet::cli
