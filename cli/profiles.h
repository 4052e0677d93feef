// The file of profiles: servers by name, with what it takes to call them.
//
//   default: local                 # for commands that name neither a profile nor a server
//   profiles:
//     local: {server: "127.0.0.1:50051"}
//     prod:
//       server: monet.example.com:443
//       tls: true
//       ca: prod-ca.pem            # paths are relative to the file's folder
//       cert: me.pem
//       cert_key: me.key
//       key_file: prod.key         # or key: …, or key_env: NAME of an environment variable
//
// Strict: unknown and repeated keys are errors.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "runtime/base/status.h"

namespace monet::cli {

// Largest file, and largest text in it.
inline constexpr size_t kMaxProfilesBytes = 1 << 20;
inline constexpr size_t kMaxProfileTextBytes = 4096;

// One server. Empty: not given.
struct Profile {
  std::string server;  // HOST:PORT, never empty
  bool tls = false;
  bool insecure = false;  // the key may cross a network unencrypted
  std::string ca, cert, cert_key;
  // At most one of them.
  std::string key, key_file, key_env;
};

struct Profiles {
  std::string default_profile;  // empty: none; else a key of `by_name`
  std::map<std::string, Profile> by_name;
};

// Paths are made relative to `folder`. Errors: INVALID_ARGUMENT naming the place in the text.
absl::StatusOr<Profiles> ParseProfiles(std::string_view yaml, const std::string& folder);

// Reads a file. Errors name it; beside those of ParseProfiles: a file with a `key` that everybody
// on the machine can read.
absl::StatusOr<Profiles> ReadProfiles(const std::string& path);

// The key in a file: its text without white space at the end. Errors: a file that everybody on the
// machine can read.
absl::StatusOr<std::string> ReadKeyFile(const std::string& path);

}  // namespace monet::cli
