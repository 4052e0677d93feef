// The PEM files of a TLS listener, read and checked as a whole before any of them is used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/base/status.h"

namespace monet::server {

struct TlsPaths {
  std::filesystem::path certificate;  // the server's own first, then those that issued it
  std::filesystem::path key;          // its private key, not encrypted
  std::filesystem::path client_ca;    // empty: clients are not asked for certificates
};

// Seconds since 1970.
struct Validity {
  int64_t not_before = 0;
  int64_t not_after = 0;
  bool Holds(int64_t now) const { return not_before <= now && now <= not_after; }
};

struct TlsFiles {
  std::string certificate;  // the chain; these three are PEM written anew, without anything else
  std::string key;
  std::string client_ca;  // empty without that file
  std::string subject;    // of the server's certificate, for operators: "CN = monet.example"
  Validity chain;         // when all certificates of the chain are valid
  Validity client_cas;    // when at least one is
};

// Reads the files and checks what OpenSSL would refuse when a client connects: unreadable PEM, a
// key that is encrypted or another certificate's, keys that are too weak. Being expired is no
// error. Errors: INVALID_ARGUMENT beginning with the setting and the file.
absl::StatusOr<TlsFiles> ReadTlsFiles(const TlsPaths& paths);

}  // namespace monet::server
