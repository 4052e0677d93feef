// The certificates of the gRPC listener: checked, watched, and handed to gRPC as one credential
// whose files can change while connections are open.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/base/status.h"
#include "server/reloads.h"
#include "server/tls_files.h"

namespace monet::server {

// gRPC reads certificates from files of its own accord and would take a broken pair, which ends
// every handshake. So it never sees the operator's files: it watches copies in memory (memfd) that
// only a checked set is written to, certificate and key in one step. TLS 1.2 and later.
//
// Thread-safe. Must outlive the server that has its credentials.
class Certificates {
 public:
  enum class ClientAuth : uint8_t {
    kRequired,  // the handshake fails without a certificate of client_ca
    kOptional,  // without one the caller has no certificate; one that does not verify still fails
  };
  // Told of every set that comes into force, the first too.
  using Observer = std::function<void(const TlsFiles&)>;

  // Errors: of ReadTlsFiles; INTERNAL when the system has no memory files.
  static absl::StatusOr<std::unique_ptr<Certificates>> Load(const TlsPaths& paths,
                                                            ClientAuth client_auth,
                                                            Observer observer);
  ~Certificates();
  Certificates(const Certificates&) = delete;
  Certificates& operator=(const Certificates&) = delete;

  std::shared_ptr<grpc::ServerCredentials> credentials() const { return credentials_; }

  // Reads the files again. New connections get the new certificate within two seconds; open ones
  // keep theirs. Besides what Load refuses, a certificate that is not valid now while the last one
  // is. Errors leave the last good set in force.
  absl::StatusOr<ReloadOutcome> Reload(ReloadTrigger trigger);

  // "CN = monet.example, valid until 2027-01-31T00:00:00Z"
  std::string Summary() const;

 private:
  class MemoryFile;

  Certificates(const TlsPaths& paths, Observer observer);
  absl::Status PutInForce(TlsFiles files);

  const TlsPaths paths_;
  const Observer observer_;
  WatchedFiles watched_;
  mutable std::mutex mutex_;
  TlsFiles current_;
  std::unique_ptr<MemoryFile> identity_;   // key, then chain
  std::unique_ptr<MemoryFile> client_ca_;  // null without
  std::shared_ptr<grpc::ServerCredentials> credentials_;
};

}  // namespace monet::server
