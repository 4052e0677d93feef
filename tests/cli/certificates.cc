#include "tests/cli/certificates.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>

namespace monet::cli {
namespace {

template <typename T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* value) const { Free(value); }
};
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY, EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509, X509_free>>;

template <typename Write>
std::string Pem(Write write) {
  BIO* bio = BIO_new(BIO_s_mem());
  EXPECT_EQ(write(bio), 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

std::string PemOf(const Key& key) {
  return Pem([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  });
}

std::string PemOf(const Certificate& certificate) {
  return Pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate.get()); });
}

Key NewKey() { return Key(EVP_EC_gen("P-256")); }

void AddExtension(X509* certificate, int id, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value);
  ASSERT_NE(extension, nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// Signed by `issuer`, or by itself where that is null; valid for an hour.
Certificate Sign(const char* name, int serial, const Key& key, const Certificate& issuer,
                 const Key& issuer_key) {
  Certificate certificate(X509_new());
  X509* raw = certificate.get();
  X509_set_version(raw, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(raw), serial);
  X509_gmtime_adj(X509_getm_notBefore(raw), -60);
  X509_gmtime_adj(X509_getm_notAfter(raw), 3600);
  X509_set_pubkey(raw, key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(raw), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
  X509_set_issuer_name(raw, X509_get_subject_name(issuer == nullptr ? raw : issuer.get()));
  AddExtension(raw, NID_basic_constraints, issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
  if (issuer != nullptr) {
    AddExtension(raw, NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost");
  }
  EXPECT_GT(X509_sign(raw, issuer_key.get(), EVP_sha256()), 0);
  return certificate;
}

}  // namespace

Certificates MakeCertificates() {
  const Key ca_key = NewKey();
  const Key server_key = NewKey();
  const Key client_key = NewKey();
  const Certificate ca = Sign("test authority", 1, ca_key, nullptr, ca_key);
  return {.ca = PemOf(ca),
          .server_cert = PemOf(Sign("server", 2, server_key, ca, ca_key)),
          .server_key = PemOf(server_key),
          .client_cert = PemOf(Sign("client", 3, client_key, ca, ca_key)),
          .client_key = PemOf(client_key)};
}

}  // namespace monet::cli
