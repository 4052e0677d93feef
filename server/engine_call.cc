#include "server/engine_call.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>
#include <utility>

#include "server/response_conversion.h"

namespace monet::server {
namespace {

uint64_t RandomBits() {
  thread_local std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

CallCost CostOf(const CallInput& input) {
  const EngineRequest& request = input.engine;
  return {.prompt_tokens = std::ssize(request.prompt_ids),
          .max_tokens = request.max_tokens,
          .n = input.n,
          .top_logprobs = request.top_logprobs,
          .priority = request.priority};
}

// What a call gets that does not say how much it wants.
void BoundDefaults(const TenantLimits& limits, CallInput* input) {
  input->default_max_tokens =
      std::min(input->default_max_tokens, limits.max_tokens.value_or(INT64_MAX));
  input->max_prompt_tokens = limits.max_prompt_tokens.value_or(INT64_MAX);
}

absl::Status QueueFull(int64_t limit) {
  return Refuse(Reason::kQueueFull, "the queue is full: {} requests wait, limit {}", limit, limit);
}

}  // namespace

// One sample's way out of the engine.
class EngineCall::SampleSink final : public EngineSink {
 public:
  SampleSink(std::shared_ptr<EngineCall> call, int32_t sample)
      : call_(std::move(call)), sample_(sample) {}

  bool HasRoom() override { return call_->HasRoom(); }
  void OnDelta(EngineDelta delta) override { call_->OnDelta(sample_, std::move(delta)); }
  void OnFinish(EngineResult result) override { call_->OnFinish(sample_, result); }

 private:
  const std::shared_ptr<EngineCall> call_;
  const int32_t sample_;
};

void EngineCall::Begin() {
  self_ = shared_from_this();
  deadline_ = DeadlineOf(*context_);
  auto pass = service_.admission->Enter();
  if (!pass.ok()) return Complete(pass.status());
  pass_ = *std::move(pass);
  if (const absl::Status status = account_.Enter(*context_); !status.ok()) return Complete(status);
  // A full queue is told before any work is done; the engine's own answer still counts.
  const ServingModel& model = *pass_.model();
  if (model.engine->Stats().waiting >= model.engine_options.max_queue) {
    return Complete(QueueFull(model.engine_options.max_queue));
  }
  if (!service_.ingress->TrySubmit(
          request_->Length(), [self = shared_from_this()] { self->Prepare(); },
          account_.tenant_name())) {
    Complete(Refuse(Reason::kQueueFull, "too many requests at once"));
  }
}

void EngineCall::Prepare() {
  const absl::Status status = Submit();
  if (!status.ok()) Complete(status);
}

void EngineCall::NoteRequestId(const std::string& id) {
  if (!CheckRequestId(id).ok()) return;
  request_id_ = id;
  account_.SetRequestId(id);
}

absl::StatusOr<ResolvedMask> EngineCall::FillMask(const PolicySnapshot& snapshot,
                                                  CallInput* input) {
  MONET_ASSIGN_OR_RETURN(ResolvedMask mask,
                         ResolveCallMask(snapshot, account_.tenant(), input->mask));
  input->engine.mask = mask.mask;
  return mask;
}

absl::Status EngineCall::Submit() {
  if (Clock::now() >= deadline_) {
    return Refuse(Reason::kDeadlineExceeded, "the deadline had passed on arrival");
  }
  {
    std::lock_guard lock(mutex_);
    if (cancelled_) return Refuse(Reason::kCancelled, "cancelled by the caller");
  }
  const ServingModel& model = *pass_.model();
  MONET_ASSIGN_OR_RETURN(CallInput input, Parse(*request_, model.shape));
  // The message is gRPC's until the call ends, and would be kept as long as the call waits and
  // runs.
  const_cast<grpc::ByteBuffer*>(request_)->Clear();
  EngineRequest& request = input.engine;
  if (request.request_id.empty()) {
    request.request_id = fmt::format("{:016x}", RandomBits());
    NoteRequestId(request.request_id);
  }
  const Tenant& tenant = account_.tenant();
  BoundDefaults(tenant.limits, &input);
  MONET_RETURN_IF_ERROR(FitPrompt(model.shape, *model.tokenizer, &input));
  const std::shared_ptr<const PolicySnapshot> snapshot = model.policies->Current();
  MONET_ASSIGN_OR_RETURN(const ResolvedMask mask, FillMask(*snapshot, &input));

  MONET_RETURN_IF_ERROR(account_.Charge(CostOf(input)));
  account_.SetMask(mask);
  request.tenant = tenant.name;
  request.cache_domain = tenant.cache_domain;
  request.weight = tenant.weight;
  request.max_mask_slots = static_cast<int32_t>(tenant.limits.distinct_masks.value_or(0));
  request.shadow = ResolveShadow(*snapshot, tenant);
  request.deadline = deadline_;
  generating_ = request.kind == EngineRequest::Kind::kGenerate;
  if (generating_) {
    input.seed = input.seed.value_or(RandomBits());
    request.seed = *input.seed;
  }
  context_->AddInitialMetadata("monet-mask-digest", mask.mask->digest().ToString());
  MONET_RETURN_IF_ERROR(Accept(MakeHeader(input, mask, *snapshot), input.echo_text, input.n));

  // The engine may finish the call before Submit returns: nothing of gRPC's is touched after it
  // but through the subclass, which knows whether the call is over.
  const std::shared_ptr<EngineCall> keep = shared_from_this();
  unfinished_ = static_cast<size_t>(input.n);
  last_delta_.resize(unfinished_);
  std::vector<std::shared_ptr<EngineSink>> sinks;
  for (int32_t sample = 0; sample < input.n; ++sample) {
    sinks.push_back(std::make_shared<SampleSink>(keep, sample));
  }
  MONET_ASSIGN_OR_RETURN(std::vector<Engine::RequestId> ids,
                         model.engine->SubmitSamples(request, std::move(sinks)));
  Started();
  std::lock_guard lock(mutex_);
  ids_ = std::move(ids);
  for (Engine::RequestId id : ids_) {
    if (cancelled_) model.engine->Cancel(id);
    if (resume_wanted_) model.engine->Resume(id);
  }
  return absl::OkStatus();
}

v1::ResponseHeader EngineCall::MakeHeader(const CallInput& input, const ResolvedMask& mask,
                                          const PolicySnapshot& snapshot) const {
  const ServingModel& model = *pass_.model();
  v1::ResponseHeader header;
  header.set_request_id(request_id_);
  header.set_model(model.shape.model_name);
  header.set_model_fingerprint(model.weights->fingerprint().ToString());
  header.set_system_fingerprint(model.system_fingerprint);
  FillAppliedMask(mask, snapshot, account_.tenant(), header.mutable_mask());
  header.set_seed(input.seed.value_or(0));
  header.set_prompt_tokens(static_cast<int32_t>(input.engine.prompt_ids.size()));
  header.set_truncated_tokens(input.truncated_tokens);
  return header;
}

void EngineCall::Cancel() {
  std::lock_guard lock(mutex_);
  cancelled_ = true;
  for (Engine::RequestId id : ids_) pass_.model()->engine->Cancel(id);
}

void EngineCall::Resume() {
  std::lock_guard lock(mutex_);
  resume_wanted_ = ids_.empty();
  for (Engine::RequestId id : ids_) pass_.model()->engine->Resume(id);
}

void EngineCall::OnDelta(int32_t sample, EngineDelta delta) {
  if (!failure_.ok()) return;
  NoteDelta(sample, delta);
  TakeDelta(sample, std::move(delta));
}

void EngineCall::OnFinish(int32_t sample, const EngineResult& result) {
  NoteResult(result);
  if (failure_.ok()) {
    if (result.status.ok()) {
      TakeResult(sample, result);
    } else {
      failure_ = result.status;
      Cancel();  // the other samples
    }
  }
  if (--unfinished_ > 0) return;
  if (failure_.ok()) failure_ = TakeEnd();
  Complete(failure_);
}

void EngineCall::NoteDelta(int32_t sample, const EngineDelta& delta) {
  if (!generating_ || delta.token_ids.empty()) return;
  const Clock::time_point now = Clock::now();
  Clock::time_point& last = last_delta_[static_cast<size_t>(sample)];
  if (last != Clock::time_point{}) {
    service_.metrics->ObserveInterTokenLatency(now - last, delta.token_ids.size());
  }
  last = now;
}

void EngineCall::NoteResult(const EngineResult& result) {
  reached_model_ = true;
  account_.AddResult(result);
  service_.metrics->ObserveResult(result, Clock::now() - arrival_);
}

absl::Status EngineCall::Refine(const absl::Status& status) const {
  // gRPC cancels a call at its deadline: the caller sees, and the counters say, the deadline.
  if (status.code() == absl::StatusCode::kCancelled && Clock::now() >= deadline_) {
    return Refuse(Reason::kDeadlineExceeded, "the deadline passed");
  }
  return status;
}

void EngineCall::Complete(const absl::Status& first_status) {
  const absl::Status status = Refine(first_status);
  if (!status.ok() && !reached_model_) {
    const char* reason = RejectionReason(status);
    if (reason != nullptr) service_.metrics->CountRejection(reason);
  }
  service_.metrics->CountCall(method_, CodeName(status));
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - arrival_);
  spdlog::info("{} {} id={} tenant={} prompt_tokens={} completion_tokens={} ms={}", method_,
               CodeName(status), request_id_.empty() ? "-" : request_id_, account_.tenant_name(),
               account_.prompt_tokens(), account_.completion_tokens(), took.count());
  account_.Finish(status);
  FinishCall(ToGrpcStatus(status));
}

void EngineCall::BreakOff() {
  std::lock_guard lock(context_mutex_);
  if (context_gone_) return;
  spdlog::warn("{} id={} tenant={} ended: its client takes nothing", method_, request_id_,
               account_.tenant_name());
  context_->TryCancel();
}

void EngineCall::Done() {
  {
    std::lock_guard lock(context_mutex_);
    context_gone_ = true;
  }
  pass_.Leave();
  const std::shared_ptr<EngineCall> last = std::move(self_);
}

}  // namespace monet::server
