#include "tests/server/certificate_writer.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <stdexcept>

namespace monet {
namespace {

using Certificate = std::shared_ptr<X509>;
using Key = std::shared_ptr<EVP_PKEY>;

void Require(bool ok) {
  if (!ok) throw std::runtime_error("OpenSSL refused a test's certificate");
}

template <typename Write>
std::string ToPem(Write write) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
  Require(write(bio.get()) == 1);
  char* text = nullptr;
  const auto size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

Key MakeKey(int rsa_bits) {
  Key key(rsa_bits == 0 ? EVP_EC_gen("P-256") : EVP_RSA_gen(static_cast<unsigned>(rsa_bits)),
          EVP_PKEY_free);
  Require(key != nullptr);
  return key;
}

void AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  Require(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

// Without issuer: of itself, as authorities are.
Certificate MakeCertificate(const CertificateRequest& request, EVP_PKEY* key, X509* issuer,
                            EVP_PKEY* issuer_key) {
  static std::atomic<int64_t> serial = 1;
  Certificate certificate(X509_new(), X509_free);
  X509* x509 = certificate.get();
  X509_set_version(x509, X509_VERSION_3);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(x509), serial++);
  X509_gmtime_adj(X509_getm_notBefore(x509), request.starts_in);
  X509_gmtime_adj(X509_getm_notAfter(x509), request.ends_in);
  X509_set_pubkey(x509, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(request.common_name.c_str()),
                             -1, -1, 0);
  X509_set_issuer_name(x509, X509_get_subject_name(issuer == nullptr ? x509 : issuer));
  if (issuer == nullptr) {
    AddExtension(x509, x509, NID_basic_constraints, "critical,CA:TRUE");
    AddExtension(x509, x509, NID_key_usage, "critical,keyCertSign,cRLSign");
  } else if (!request.alternative_names.empty()) {
    AddExtension(x509, issuer, NID_subject_alt_name, request.alternative_names);
  }
  Require(X509_sign(x509, issuer_key, EVP_sha256()) > 0);
  return certificate;
}

std::string CertificatePem(X509* certificate) {
  return ToPem([certificate](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

}  // namespace

CertificateAuthority::CertificateAuthority(const std::string& common_name)
    : key_(MakeKey(0)),
      certificate_(MakeCertificate({.common_name = common_name, .alternative_names = ""},
                                   key_.get(), nullptr, key_.get())),
      pem_(CertificatePem(certificate_.get())) {}

IssuedCertificate CertificateAuthority::Issue(const CertificateRequest& request) const {
  const Key key = MakeKey(request.rsa_bits);
  const Certificate certificate =
      MakeCertificate(request, key.get(), certificate_.get(), key_.get());
  return {CertificatePem(certificate.get()), ToPem([&](BIO* bio) {
            return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
          })};
}

std::string EncryptKey(const std::string& key_pem) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())), BIO_free);
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  return ToPem([&](BIO* out) {
    char password[] = "secret";
    return PEM_write_bio_PKCS8PrivateKey(out, key.get(), EVP_aes_256_cbc(), password,
                                         sizeof(password) - 1, nullptr, nullptr);
  });
}

}  // namespace monet
