// What every tenant has used of its limits: calls at a time, requests and tokens a minute. The
// accounts outlive reloads of the files; the limits are those of the tenant that a call was
// admitted with.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "runtime/base/status.h"
#include "runtime/tenant/tenant.h"
#include "runtime/tenant/token_bucket.h"

namespace monet {

// What a call asks for, once its prompt is tokenised.
struct CallCost {
  int64_t prompt_tokens = 0;
  int64_t max_tokens = 0;  // of one completion; 0: it generates none
  int64_t n = 1;
  int64_t top_logprobs = 0;
  int64_t priority = 0;

  // The most that it can use.
  int64_t Tokens() const { return prompt_tokens + max_tokens * n; }
};

// Whether one call may be this large. Errors: LIMIT_EXCEEDED naming the field and the limit.
absl::Status CheckCallCost(const Tenant& tenant, const CallCost& cost);

// The limit that a refusal of this file names ("tokens_per_minute"); empty for any other status.
std::string LimitOf(const absl::Status& status);

// Thread-safe; must outlive its tickets.
class TenantQuotas {
 public:
  using TimePoint = TokenBucket::TimePoint;

  // A call's place. Counts as one of its tenant's calls until it is released or destroyed; what was
  // charged and never settled is then given back. Not thread-safe.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { Release(TimePoint::min()); }

    // Takes the tokens that the call may use. Errors: RATE_LIMITED with the time until there are
    // enough. REQUIRES: CheckCallCost was OK; called at most once.
    absl::Status Charge(const CallCost& cost, TimePoint now);
    // The call used so many: the rest of the charge is given back. At most once.
    void Settle(int64_t used, TimePoint now);
    // Idempotent.
    void Release(TimePoint now);

   private:
    friend class TenantQuotas;
    TenantQuotas* quotas_ = nullptr;
    std::shared_ptr<const Tenant> tenant_;
    int64_t charged_ = 0;
  };

  // Errors: CONCURRENCY_LIMITED, and RATE_LIMITED with the time until a request is free.
  absl::StatusOr<Ticket> Enter(std::shared_ptr<const Tenant> tenant, TimePoint now);

  // Calls inside.
  int64_t Running(const std::string& tenant) const;

 private:
  struct Account {
    int64_t running = 0;
    std::optional<TokenBucket> requests;
    std::optional<TokenBucket> tokens;
  };

  absl::Status Charge(const Tenant& tenant, int64_t tokens, TimePoint now);
  void Return(const std::string& tenant, int64_t tokens, TimePoint now);
  void Leave(const std::string& tenant);

  mutable std::mutex mutex_;
  std::map<std::string, Account> accounts_;  // under mutex_; by tenant
};

}  // namespace monet
