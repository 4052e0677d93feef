// Certificates for tests, made anew each time: an authority, and what it signed.
#pragma once

#include <string>

namespace monet::cli {

// PEM texts.
struct Certificates {
  std::string ca;
  std::string server_cert, server_key;  // for 127.0.0.1 and localhost
  std::string client_cert, client_key;
};

Certificates MakeCertificates();

}  // namespace monet::cli
