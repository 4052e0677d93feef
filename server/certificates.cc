#include "server/certificates.h"

#include <fcntl.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <utility>

#include "runtime/base/write_all.h"
#include "runtime/tenant/utc_time.h"

namespace monet::server {
namespace {

constexpr unsigned int kGrpcWatchSeconds = 1;  // the shortest that it takes

std::string TimeText(int64_t seconds) {
  return FormatUtcTime(UtcTime(std::chrono::seconds(seconds)));
}

void WarnUnlessValid(const char* what, const Validity& validity) {
  const int64_t now = std::time(nullptr);
  if (now > validity.not_after) {
    spdlog::error("{} EXPIRED at {}: clients will refuse to connect", what,
                  TimeText(validity.not_after));
  } else if (now < validity.not_before) {
    spdlog::error("{} is not valid before {}: clients will refuse to connect", what,
                  TimeText(validity.not_before));
  }
}

}  // namespace

// A file without a name whose content changes in one step. Readers open path() and see one content
// from beginning to end.
class Certificates::MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("monet-tls", MFD_CLOEXEC)) {}
  ~MemoryFile() {
    if (fd_ >= 0) close(fd_);
  }

  bool Replace(std::string_view text) {
    const int next = memfd_create("monet-tls", MFD_CLOEXEC);
    // gRPC takes a pair for consistent when the time of the file, in seconds, is the same before
    // and after: every content gets another one.
    const timespec time = {++generation_, 0};
    const timespec times[2] = {time, time};
    const bool ok = fd_ >= 0 && next >= 0 && WriteAll(next, text) == 0 &&
                    futimens(next, times) == 0 && dup3(next, fd_, O_CLOEXEC) == fd_;
    if (next >= 0) close(next);
    return ok;
  }

  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }

 private:
  const int fd_;
  std::time_t generation_ = 0;
};

Certificates::Certificates(const TlsPaths& paths, Observer observer)
    : paths_(paths),
      observer_(std::move(observer)),
      watched_({paths.certificate, paths.key, paths.client_ca}) {}

Certificates::~Certificates() = default;

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Load(const TlsPaths& paths,
                                                                 ClientAuth client_auth,
                                                                 Observer observer) {
  MONET_ASSIGN_OR_RETURN(TlsFiles files, ReadTlsFiles(paths));
  std::unique_ptr<Certificates> result(new Certificates(paths, std::move(observer)));
  result->identity_ = std::make_unique<MemoryFile>();
  if (!paths.client_ca.empty()) result->client_ca_ = std::make_unique<MemoryFile>();
  MONET_RETURN_IF_ERROR(result->PutInForce(std::move(files)));

  const std::string identity = result->identity_->path();
  const std::string client_ca = result->client_ca_ ? result->client_ca_->path() : "";
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
          identity, identity, client_ca, kGrpcWatchSeconds));
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  if (!client_ca.empty()) {
    options.watch_root_certs();
    // Both kinds verify what they are given; never a type that does not.
    options.set_cert_request_type(client_auth == ClientAuth::kRequired
                                      ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  result->credentials_ = grpc::experimental::TlsServerCredentials(options);
  if (result->credentials_ == nullptr) {
    return Error(absl::StatusCode::kInternal, "tls_cert: gRPC does not take the certificates");
  }
  return result;
}

absl::Status Certificates::PutInForce(TlsFiles files) {
  std::lock_guard lock(mutex_);
  // The order does not matter: either set of authorities is the operator's.
  if (!identity_->Replace(files.key + "\n" + files.certificate) ||
      (client_ca_ != nullptr && !client_ca_->Replace(files.client_ca))) {
    return Error(absl::StatusCode::kInternal, "cannot keep the certificates in memory");
  }
  current_ = std::move(files);
  WarnUnlessValid("the certificate of tls_cert", current_.chain);
  if (client_ca_ != nullptr) WarnUnlessValid("tls_client_ca", current_.client_cas);
  if (observer_) observer_(current_);
  return absl::OkStatus();
}

absl::StatusOr<ReloadOutcome> Certificates::Reload(ReloadTrigger trigger) {
  MONET_ASSIGN_OR_RETURN(auto files,
                         watched_.Read<TlsFiles>(trigger, [this] { return ReadTlsFiles(paths_); }));
  if (!files) return ReloadOutcome{false, Summary()};
  {
    std::lock_guard lock(mutex_);
    if (files->certificate == current_.certificate && files->key == current_.key &&
        files->client_ca == current_.client_ca) {
      files.reset();
    } else if (const int64_t now = std::time(nullptr);
               current_.chain.Holds(now) && !files->chain.Holds(now)) {
      return InvalidArgument("tls_cert {}: valid from {} to {}, which is not now",
                             paths_.certificate.string(), TimeText(files->chain.not_before),
                             TimeText(files->chain.not_after));
    }
  }
  if (!files) return ReloadOutcome{false, Summary()};
  MONET_RETURN_IF_ERROR(PutInForce(*std::move(files)));
  return ReloadOutcome{true, Summary()};
}

std::string Certificates::Summary() const {
  std::lock_guard lock(mutex_);
  return fmt::format("{}, valid until {}", current_.subject, TimeText(current_.chain.not_after));
}

}  // namespace monet::server
