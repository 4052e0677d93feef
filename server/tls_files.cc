#include "server/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <limits>
#include <memory>
#include <vector>

#include "runtime/limits.h"

namespace monet::server {
namespace {

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;

absl::StatusOr<std::string> ReadPem(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(limits::kMaxPemBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return InvalidArgument("cannot be read");
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > limits::kMaxPemBytes) {
    return InvalidArgument("larger than {} bytes", limits::kMaxPemBytes);
  }
  return text;
}

Bio Reader(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// OpenSSL's reason for the first of its errors, which are then forgotten.
std::string TakeError() {
  const unsigned long code = ERR_get_error();  // NOLINT(google-runtime-int): OpenSSL's type
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown error" : reason;
}

// No prompt on the operator's terminal for the password of an encrypted key.
int NoPassword(char*, int, int, void*) { return 0; }

absl::StatusOr<std::vector<Certificate>> ParseCertificates(const std::string& pem) {
  ERR_clear_error();
  const Bio bio = Reader(pem);
  std::vector<Certificate> certificates;
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(certificate);
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string error = TakeError();
  if (!at_end) return InvalidArgument("certificate {}: {}", certificates.size() + 1, error);
  if (certificates.empty()) return InvalidArgument("holds no PEM certificate");
  return certificates;
}

absl::StatusOr<Key> ParseKey(const std::string& pem) {
  ERR_clear_error();
  const Bio bio = Reader(pem);
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    const std::string error = TakeError();
    if (pem.find("ENCRYPTED") != std::string::npos) {
      return InvalidArgument("the private key is encrypted; give it without a password");
    }
    return InvalidArgument("holds no PEM private key that can be read ({})", error);
  }
  return key;
}

std::string Contents(BIO* bio) {
  char* text = nullptr;
  const auto size = BIO_get_mem_data(bio, &text);
  return std::string(text, static_cast<size_t>(size));
}

// Only what was checked reaches gRPC, which takes the first of whatever else a file holds.
std::string ToPem(const std::vector<Certificate>& certificates) {
  const Bio bio(BIO_new(BIO_s_mem()));
  for (const Certificate& certificate : certificates) {
    PEM_write_bio_X509(bio.get(), certificate.get());
  }
  return Contents(bio.get());
}

std::string ToPem(const Key& key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return Contents(bio.get());
}

int64_t Seconds(const ASN1_TIME* time) {
  std::tm parts = {};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? int64_t{timegm(&parts)} : 0;
}

Validity ValidityOf(const X509* certificate) {
  return {Seconds(X509_get0_notBefore(certificate)), Seconds(X509_get0_notAfter(certificate))};
}

std::string Subject(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0,
                     XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB);
  return Contents(bio.get());
}

// What gRPC will do with them for every connection, with OpenSSL's own checks.
absl::Status CheckChain(const std::vector<Certificate>& chain) {
  ERR_clear_error();
  const Context context(SSL_CTX_new(TLS_server_method()));
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1) {
    return InvalidArgument("certificate 1: {}", TakeError());
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) {
      return InvalidArgument("certificate {}: {}", i + 1, TakeError());
    }
  }
  return absl::OkStatus();
}

absl::Status At(const char* setting, const std::filesystem::path& path,
                const absl::Status& status) {
  return InvalidArgument("{} {}: {}", setting, path.string(), Message(status));
}

absl::Status ReadIdentity(const TlsPaths& paths, TlsFiles* files) {
  const auto certificate_pem = ReadPem(paths.certificate);
  if (!certificate_pem.ok()) return At("tls_cert", paths.certificate, certificate_pem.status());
  const auto chain = ParseCertificates(*certificate_pem);
  if (!chain.ok()) return At("tls_cert", paths.certificate, chain.status());
  const absl::Status usable = CheckChain(*chain);
  if (!usable.ok()) return At("tls_cert", paths.certificate, usable);
  const auto key_pem = ReadPem(paths.key);
  if (!key_pem.ok()) return At("tls_key", paths.key, key_pem.status());
  const auto key = ParseKey(*key_pem);
  if (!key.ok()) return At("tls_key", paths.key, key.status());
  if (X509_check_private_key(chain->front().get(), key->get()) != 1) {
    ERR_clear_error();
    return InvalidArgument("tls_key {}: is not the key of the certificate in tls_cert {}",
                           paths.key.string(), paths.certificate.string());
  }
  files->certificate = ToPem(*chain);
  files->key = ToPem(*key);
  files->subject = Subject(chain->front().get());
  files->chain = {0, std::numeric_limits<int64_t>::max()};
  for (const Certificate& certificate : *chain) {
    const Validity validity = ValidityOf(certificate.get());
    files->chain.not_before = std::max(files->chain.not_before, validity.not_before);
    files->chain.not_after = std::min(files->chain.not_after, validity.not_after);
  }
  return absl::OkStatus();
}

absl::Status ReadClientCa(const TlsPaths& paths, TlsFiles* files) {
  const auto pem = ReadPem(paths.client_ca);
  if (!pem.ok()) return At("tls_client_ca", paths.client_ca, pem.status());
  const auto authorities = ParseCertificates(*pem);
  if (!authorities.ok()) return At("tls_client_ca", paths.client_ca, authorities.status());
  files->client_cas = {std::numeric_limits<int64_t>::max(), 0};
  for (const Certificate& certificate : *authorities) {
    const Validity validity = ValidityOf(certificate.get());
    files->client_cas.not_before = std::min(files->client_cas.not_before, validity.not_before);
    files->client_cas.not_after = std::max(files->client_cas.not_after, validity.not_after);
  }
  files->client_ca = ToPem(*authorities);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TlsFiles> ReadTlsFiles(const TlsPaths& paths) {
  TlsFiles files;
  MONET_RETURN_IF_ERROR(ReadIdentity(paths, &files));
  if (!paths.client_ca.empty()) MONET_RETURN_IF_ERROR(ReadClientCa(paths, &files));
  return files;
}

}  // namespace monet::server
