#include "runtime/tenant/tenant_quotas.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "runtime/base/check.h"
#include "runtime/base/reasons.h"

namespace monet {
namespace {

constexpr char kLimitPayload[] = "monet/limit";

absl::Status Named(const char* limit, absl::Status status) {
  status.SetPayload(kLimitPayload, absl::Cord(limit));
  return status;
}

absl::Status CheckField(const char* field, const char* what, int64_t value,
                        const std::optional<int64_t>& limit, const char* limit_name) {
  if (!limit || value <= *limit) return absl::OkStatus();
  return Named(limit_name, Refuse(Reason::kLimitExceeded, "{} {} {}, limit {} of this tenant ({})",
                                  field, what, value, *limit, limit_name));
}

// The bucket at the tenant's rate; null without a limit.
TokenBucket* BucketOf(const std::optional<int64_t>& rate, std::optional<TokenBucket>* bucket,
                      TenantQuotas::TimePoint now) {
  if (!rate) {
    bucket->reset();
    return nullptr;
  }
  if (!*bucket) bucket->emplace(*rate, now);
  (*bucket)->SetRate(*rate, now);
  return &**bucket;
}

}  // namespace

absl::Status CheckCallCost(const Tenant& tenant, const CallCost& cost) {
  const TenantLimits& limits = tenant.limits;
  MONET_RETURN_IF_ERROR(CheckField("prompt", "has tokens:", cost.prompt_tokens,
                                   limits.max_prompt_tokens, "max_prompt_tokens"));
  MONET_RETURN_IF_ERROR(
      CheckField("stopping.max_tokens", "is", cost.max_tokens, limits.max_tokens, "max_tokens"));
  MONET_RETURN_IF_ERROR(CheckField("n", "is", cost.n, limits.max_n, "max_n"));
  MONET_RETURN_IF_ERROR(CheckField("logprob_options.top_logprobs", "is", cost.top_logprobs,
                                   limits.max_top_logprobs, "max_top_logprobs"));
  MONET_RETURN_IF_ERROR(
      CheckField("priority", "is", cost.priority, limits.max_priority.value_or(0), "max_priority"));
  // More than a minute's worth is never there at once.
  return CheckField(cost.max_tokens > 0 ? "stopping.max_tokens" : "prompt",
                    "may make the call use tokens:", cost.Tokens(), limits.tokens_per_minute,
                    "tokens_per_minute");
}

std::string LimitOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kLimitPayload);
  return payload ? std::string(*payload) : std::string();
}

TenantQuotas::Ticket& TenantQuotas::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Release(TimePoint::min());
  quotas_ = std::exchange(other.quotas_, nullptr);
  tenant_ = std::move(other.tenant_);
  charged_ = std::exchange(other.charged_, 0);
  return *this;
}

absl::Status TenantQuotas::Ticket::Charge(const CallCost& cost, TimePoint now) {
  MONET_CHECK(quotas_ != nullptr && charged_ == 0);
  MONET_RETURN_IF_ERROR(quotas_->Charge(*tenant_, cost.Tokens(), now));
  charged_ = cost.Tokens();
  return absl::OkStatus();
}

void TenantQuotas::Ticket::Settle(int64_t used, TimePoint now) {
  const int64_t charged = std::exchange(charged_, 0);
  if (quotas_ != nullptr && charged > used) quotas_->Return(tenant_->name, charged - used, now);
}

void TenantQuotas::Ticket::Release(TimePoint now) {
  Settle(0, now);
  TenantQuotas* const quotas = std::exchange(quotas_, nullptr);
  if (quotas != nullptr) quotas->Leave(tenant_->name);
}

absl::StatusOr<TenantQuotas::Ticket> TenantQuotas::Enter(std::shared_ptr<const Tenant> tenant,
                                                         TimePoint now) {
  const TenantLimits& limits = tenant->limits;
  {
    const std::lock_guard lock(mutex_);
    Account& account = accounts_[tenant->name];
    if (limits.concurrent && account.running >= *limits.concurrent) {
      return Named("concurrent",
                   Refuse(Reason::kConcurrencyLimited,
                          "{} calls of this tenant run at a time, limit {} (concurrent)",
                          account.running, *limits.concurrent));
    }
    if (TokenBucket* requests = BucketOf(limits.requests_per_minute, &account.requests, now)) {
      if (const auto wait = requests->Take(1, now)) {
        return Named("requests_per_minute",
                     RefuseFor(*wait, Reason::kRateLimited,
                               fmt::format("this tenant's requests are used up for now, limit {} a "
                                           "minute (requests_per_minute)",
                                           *limits.requests_per_minute)));
      }
    }
    ++account.running;
  }
  Ticket ticket;
  ticket.quotas_ = this;
  ticket.tenant_ = std::move(tenant);
  return ticket;
}

absl::Status TenantQuotas::Charge(const Tenant& tenant, int64_t tokens, TimePoint now) {
  const std::lock_guard lock(mutex_);
  TokenBucket* bucket =
      BucketOf(tenant.limits.tokens_per_minute, &accounts_[tenant.name].tokens, now);
  if (bucket == nullptr) return absl::OkStatus();
  const auto wait = bucket->Take(tokens, now);
  if (!wait) return absl::OkStatus();
  return Named(
      "tokens_per_minute",
      RefuseFor(*wait, Reason::kRateLimited,
                fmt::format("the call may use {} tokens and this tenant has {} left, limit {} a "
                            "minute (tokens_per_minute)",
                            tokens, bucket->Level(now), bucket->per_minute())));
}

void TenantQuotas::Return(const std::string& tenant, int64_t tokens, TimePoint now) {
  const std::lock_guard lock(mutex_);
  Account& account = accounts_[tenant];
  if (account.tokens) account.tokens->Return(tokens, now);
}

void TenantQuotas::Leave(const std::string& tenant) {
  const std::lock_guard lock(mutex_);
  --accounts_[tenant].running;
}

int64_t TenantQuotas::Running(const std::string& tenant) const {
  const std::lock_guard lock(mutex_);
  const auto account = accounts_.find(tenant);
  return account == accounts_.end() ? 0 : account->second.running;
}

}  // namespace monet
