// A call's tenant, its place among the tenant's calls, and what it used: from the moment that the
// caller is known to the call's end. What unary calls and those that run the model share.
#pragma once

#include <string>

#include "runtime/tenant/tenant_quotas.h"
#include "server/identity.h"
#include "server/usage.h"

namespace monet::server {

// What accounting needs of the server. All outlive every call.
struct Accounting {
  const TenantRegistry* tenants = nullptr;
  TenantQuotas* quotas = nullptr;
  Usage usage;
};

// One thread at a time.
class CallAccount {
 public:
  // `method` must outlive it.
  CallAccount(const Accounting& accounting, const char* method);

  // Who is calling, and a place for the call. Cheap: runs on gRPC's own threads. Errors:
  // UNAUTHENTICATED; RATE_LIMITED and CONCURRENCY_LIMITED, which are recorded as the tenant's.
  absl::Status Enter(const grpc::ServerContextBase& context);
  // Takes the tokens that the call may use. Errors: LIMIT_EXCEEDED, RATE_LIMITED.
  absl::Status Charge(const CallCost& cost);

  // Anonymous, with every right, until Enter has known the caller.
  const Identity& identity() const { return identity_; }
  const Tenant& tenant() const { return *identity_.tenant; }
  // For logs: "-" while the caller is not known.
  const std::string& tenant_name() const { return record_.tenant; }

  // The caller's own id, as soon as it is known, so that a refusal is recorded with it.
  void SetRequestId(const std::string& request_id) { record_.request_id = request_id; }
  // The mask that the call runs under.
  void SetMask(const ResolvedMask& mask);
  // The engine finished a completion of it.
  void AddResult(const EngineResult& result);
  int64_t prompt_tokens() const { return record_.prompt_tokens; }
  int64_t completion_tokens() const { return record_.completion_tokens; }

  // The call is over, but its caller does not know yet: its place is free for the caller's next
  // one. Once.
  void Finish(const absl::Status& status);

 private:
  const Accounting accounting_;
  const Clock::time_point arrival_ = Clock::now();
  Identity identity_;
  TenantQuotas::Ticket ticket_;
  CallRecord record_;
  bool known_ = false;
};

}  // namespace monet::server
