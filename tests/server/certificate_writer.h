// Certificates for tests, made when they are needed: an authority and what it issues. P-256 keys,
// unless a test wants a weak one.
#pragma once

#include <openssl/x509.h>

#include <memory>
#include <string>

namespace monet {

struct IssuedCertificate {
  std::string certificate;  // PEM
  std::string key;          // PEM
};

struct CertificateRequest {
  std::string common_name = "monet.test";
  std::string alternative_names = "DNS:localhost,IP:127.0.0.1";
  int64_t starts_in = -3600;  // seconds from now
  int64_t ends_in = 86400;
  int rsa_bits = 0;  // 0: P-256
};

class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& common_name);

  const std::string& pem() const { return pem_; }
  IssuedCertificate Issue(const CertificateRequest& request) const;

 private:
  std::shared_ptr<EVP_PKEY> key_;
  std::shared_ptr<X509> certificate_;
  std::string pem_;
};

// The key under a password.
std::string EncryptKey(const std::string& key_pem);

}  // namespace monet
