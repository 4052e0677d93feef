#include "server/call_account.h"

#include <algorithm>
#include <utility>

#include "runtime/base/reasons.h"
#include "server/error_details.h"

namespace monet::server {

CallAccount::CallAccount(const Accounting& accounting, const char* method)
    : accounting_(accounting) {
  record_.method = method;
  record_.tenant.assign(1, '-');  // GCC 12 warns about the plain assignment (its bug 105329)
}

absl::Status CallAccount::Enter(const grpc::ServerContextBase& context) {
  MONET_ASSIGN_OR_RETURN(identity_, Authenticate(*accounting_.tenants, context));
  known_ = true;
  record_.tenant = identity_.tenant->name;
  MONET_ASSIGN_OR_RETURN(ticket_, accounting_.quotas->Enter(identity_.tenant, Clock::now()));
  return absl::OkStatus();
}

absl::Status CallAccount::Charge(const CallCost& cost) {
  MONET_RETURN_IF_ERROR(CheckCallCost(tenant(), cost));
  return ticket_.Charge(cost, Clock::now());
}

void CallAccount::SetMask(const ResolvedMask& mask) {
  record_.mask_digest = mask.mask->digest().ToString();
  record_.policies = mask.policies;
}

void CallAccount::AddResult(const EngineResult& result) {
  const EngineUsage& usage = result.usage;
  // Every completion tells the whole prompt; one that never ran tells none.
  record_.prompt_tokens = std::max<int64_t>(record_.prompt_tokens, usage.prompt_tokens);
  record_.cached_tokens = std::max<int64_t>(record_.cached_tokens, usage.cached_tokens);
  record_.completion_tokens += usage.completion_tokens;
  record_.queue_time = std::max(record_.queue_time, result.queue_time);
  record_.removed_weight_share = usage.removed_weight_share;
  if (usage.shadow_weight_share) record_.shadow_weight_share = usage.shadow_weight_share;
}

void CallAccount::Finish(const absl::Status& status) {
  const Clock::time_point now = Clock::now();
  ticket_.Settle(record_.prompt_tokens + record_.completion_tokens, now);
  ticket_.Release(now);
  if (!known_) return;
  record_.code = CodeName(status);
  if (!status.ok()) {
    record_.reason = ReasonOf(status).name;
    record_.limit = LimitOf(status);
  }
  record_.duration = now - arrival_;
  accounting_.usage.Record(record_);
}

}  // namespace monet::server
