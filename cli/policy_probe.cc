#include "cli/policy_probe.h"

#include <cmath>

#include "cli/exit_status.h"
#include "runtime/limits.h"

namespace monet::cli {
namespace {

std::string ReferenceTo(const Policy& policy) {
  return fmt::format("{}@{}", policy.name, policy.version);
}

absl::Status CheckServed(const Policy& policy, Connection* connection) {
  v1::GetPolicyRequest request;
  request.set_policy(ReferenceTo(policy));
  v1::GetPolicyResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->policy().GetPolicy(context, request, &response);
  }));
  const v1::Policy& served = response.policy();
  if (served.digest() == policy.digest.ToString() &&
      served.mask_digest() == policy.mask->digest().ToString()) {
    return absl::OkStatus();
  }
  return MarkCallFailed(Error(absl::StatusCode::kFailedPrecondition,
                              "{} has another digest on the server: {}, here {}",
                              ReferenceTo(policy), served.digest(), policy.digest.ToString()));
}

// Takes the messages of one explanation.
class Probe {
 public:
  explicit Probe(const Policy& policy) : policy_(policy) {}

  absl::Status Take(const v1::ExplainResponse& message) {
    if (message.has_header()) MONET_RETURN_IF_ERROR(TakeHeader(message.header()));
    for (const v1::TokenActivation& activation : message.activations()) {
      MONET_RETURN_IF_ERROR(TakeActivation(activation));
    }
    if (!message.has_usage()) return absl::OkStatus();
    finished_ = true;
    result_.tokens = message.usage().prompt_tokens();
    result_.removed_weight_share = message.removed_weight_share();
    return absl::OkStatus();
  }

  absl::StatusOr<ProbeResult> Finish() const {
    const int64_t groups = result_.tokens * policy_.mask->shape().routers;
    if (!has_header_ || !finished_) return BadAnswer("the stream ended without a finish");
    if (groups_ != groups) return BadAnswer("{} activations of {}", groups_, groups);
    if (result_.removed == 0 && result_.removed_weight_share != 0 && !result_.has_mandatory) {
      return BadAnswer("routing weight was removed, but no expert");
    }
    return result_;
  }

 private:
  absl::Status TakeHeader(const v1::ResponseHeader& header) {
    has_header_ = true;
    bool applied = false;
    for (const v1::AppliedPolicy& policy : header.mask().policies()) {
      const bool is_ours = policy.digest() == policy_.digest.ToString();
      applied = applied || is_ours;
      result_.has_mandatory = result_.has_mandatory || !is_ours;
    }
    if (!applied) return BadAnswer("{} was not applied", ReferenceTo(policy_));
    if (!result_.has_mandatory && header.mask().digest() != policy_.mask->digest().ToString()) {
      return BadAnswer("the call ran under another mask");
    }
    return absl::OkStatus();
  }

  absl::Status TakeActivation(const v1::TokenActivation& activation) {
    ++groups_;
    const MaskShape& shape = policy_.mask->shape();
    const int32_t router = activation.router();
    if (router < 0 || router >= shape.routers) return BadAnswer("router {}", router);
    double removed_weight = 0;
    for (const v1::ExpertActivation& expert : activation.experts()) {
      if (expert.i() < 0 || expert.i() >= shape.experts || expert.j() < 0 ||
          expert.j() >= shape.experts) {
        return BadAnswer("expert r{}/{}/{}", router, expert.i(), expert.j());
      }
      const bool is_ours = policy_.mask->Removes(router, expert.i(), expert.j());
      if (is_ours && !expert.removed()) {
        return BadAnswer("expert r{}/{}/{} of {} is not removed", router, expert.i(), expert.j(),
                         ReferenceTo(policy_));
      }
      if (!is_ours && expert.removed() && !result_.has_mandatory) {
        return BadAnswer("expert r{}/{}/{} is removed, but not by {}", router, expert.i(),
                         expert.j(), ReferenceTo(policy_));
      }
      ++result_.active;
      result_.removed += is_ours ? 1 : 0;
      if (expert.removed()) removed_weight += expert.weight();
    }
    const bool all_listed = activation.active_experts() == activation.experts_size();
    constexpr double kTolerance = 1e-4;  // of sums of floats
    if (all_listed && std::abs(removed_weight - activation.removed_weight()) > kTolerance) {
      return BadAnswer("a removed weight of {}, where the experts' is {}",
                       activation.removed_weight(), removed_weight);
    }
    return absl::OkStatus();
  }

  const Policy& policy_;
  ProbeResult result_;
  int64_t groups_ = 0;
  bool has_header_ = false;
  bool finished_ = false;
};

}  // namespace

absl::StatusOr<ProbeResult> ProbePolicy(const Policy& policy, const std::string& text,
                                        Connection* connection) {
  MONET_RETURN_IF_ERROR(CheckServed(policy, connection));
  v1::ExplainRequest request;
  request.mutable_prompt()->set_text(text);
  request.mutable_mask()->add_policies(ReferenceTo(policy));
  request.set_top_n(limits::kMaxExplainTopN);
  Probe probe(policy);
  MONET_RETURN_IF_ERROR(connection->Call([&](grpc::ClientContext* context) -> absl::Status {
    const auto stream = connection->expert().Explain(context, request);
    v1::ExplainResponse message;
    absl::Status taken;
    while (taken.ok() && stream->Read(&message)) taken = probe.Take(message);
    if (!taken.ok()) context->TryCancel();
    const grpc::Status ended = stream->Finish();
    return taken.ok() ? FromCall(ended) : taken;
  }));
  return probe.Finish();
}

}  // namespace monet::cli
