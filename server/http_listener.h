// cpp-httplib's server with the bounds that it does not set itself: few threads, few waiting
// connections, and for every connection one request, so many bytes and so much time.
#pragma once

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "runtime/base/status.h"

namespace monet::server {

// Handlers are set on http() before Start. Not thread-safe; handlers run on several threads.
class HttpListener {
 public:
  struct Limits {
    int32_t threads = 2;
    size_t waiting = 16;                    // connections not yet served; more wait in the kernel
    size_t request_bytes = 0;               // head and body of one request
    std::chrono::milliseconds time{10000};  // to read a request, and to write its answer
  };

  explicit HttpListener(const Limits& limits);
  ~HttpListener();

  httplib::Server& http();

  // Takes the port, 0 for a free one, and serves. Errors: INVALID_ARGUMENT, without the address.
  absl::Status Start(const std::string& host, int32_t port);
  // Ends after the requests that are being served.
  void Stop();
  int32_t port() const { return port_; }

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
  std::thread thread_;
  int32_t port_ = 0;
};

}  // namespace monet::server
