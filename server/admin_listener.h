// The administrator's port: plain HTTP with JSON, on threads of its own, so that it answers
// whatever the model and gRPC do.
//
//   GET  /health      what the server is doing; 200 while it serves, else 503
//   POST /reload      reads policies, certificates and the rest again; 422 when one was refused
//   POST /drain       as SIGTERM; 202
//   GET  /log-level   {"level": "info"}
//   PUT  /log-level   the same, to change it
//
// Errors are {"error": "..."}. Who may ask: whoever has the token, or, without one, this machine.
// Browsers may not, whoever they act for: an Origin, a POST or PUT without the header
// X-Monet-Admin and, without a token, a Host that is not this machine's are refused, since a page
// may send requests to a loopback address and have its own name resolve to it.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/base/status.h"
#include "server/admin_token.h"
#include "server/http_listener.h"
#include "server/options.h"
#include "server/reloads.h"

namespace monet::server {

// All are called on the listener's threads, several at a time, and must not block for long.
struct AdminActions {
  std::function<nlohmann::ordered_json()> health;  // an object with the member "state"
  Reloads* reloads = nullptr;
  std::function<void()> drain;  // once the request for it has been answered
};

class AdminListener {
 public:
  // `token` may be null: then the address must be loopback (CheckOptions). Both outlive this.
  AdminListener(AdminActions actions, const AdminToken* token);
  ~AdminListener();

  // Errors: INVALID_ARGUMENT when the address cannot be had.
  absl::Status Listen(const std::string& address);
  // After Listen: the address with the real port.
  const std::string& address() const { return address_; }

 private:
  struct Answer;
  struct Route;
  static const Route* FindRoute(const httplib::Request& request);
  static const std::vector<Route>& Routes();

  void Handle(const Route& route, const httplib::Request& request,
              httplib::Response* response) const;
  Answer Check(const httplib::Request& request) const;
  Answer Health(const httplib::Request& request) const;
  Answer Reload(const httplib::Request& request) const;
  Answer Drain(const httplib::Request& request) const;
  Answer GetLogLevel(const httplib::Request& request) const;
  Answer PutLogLevel(const httplib::Request& request) const;

  const AdminActions actions_;
  const AdminToken* const token_;
  HttpListener listener_;
  std::string address_;
};

}  // namespace monet::server
