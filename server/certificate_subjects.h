// What a verified client certificate may be recognised by, as texts that cannot be taken for one
// another.
#pragma once

#include <string>
#include <vector>

namespace monet::server {

// The names of a certificate by kind, as gRPC tells them; empty where it has none.
struct CertificateNames {
  std::vector<std::string> common_names;
  std::vector<std::string> whole_subjects;  // RFC 2253: "CN=acme,O=Example"
  std::vector<std::string> dns;
  std::vector<std::string> uris;
  std::vector<std::string> emails;
  std::vector<std::string> ips;
};

// The texts that tenants.yaml compares with: "CN=" and a common name, the whole subject, and the
// subject alternative names as they are. An alternative name whose text is not of its own kind is
// left out: a DNS name "CN=acme" or "spiffe://mesh/acme" is nobody's, though a careless authority
// signed it. A whole subject that is a common name alone is that common name, and is given once.
std::vector<std::string> SubjectsOf(const CertificateNames& names);

}  // namespace monet::server
