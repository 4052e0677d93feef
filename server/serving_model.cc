#include "server/serving_model.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <functional>
#include <system_error>
#include <utility>

#include "runtime/base/visible_ascii.h"
#include "runtime/limits.h"
#include "runtime/model/backend_factory.h"
#include "runtime/model/checkpoint.h"
#include "server/cpu_budget.h"

namespace monet::server {
namespace {

absl::Status At(const char* what, const std::filesystem::path& path, const absl::Status& status) {
  return InvalidArgument("{} {}: {}", what, path.string(), Message(status));
}

// "monet-0.1.0/cpu/NUMERICS/fp32/3fa9c1d20b7e"
std::string SystemFingerprint(const kernels::Backend& backend, const Weights& weights) {
  const std::string digest = weights.fingerprint().ToString();
  return fmt::format("monet-{}/{}/{}/fp32/{}", MONET_VERSION, backend.Name(), backend.NumericsId(),
                     digest.substr(digest.find(':') + 1, 12));
}

absl::StatusOr<std::shared_ptr<const PolicySnapshot>> LoadPolicies(const ServerOptions& options,
                                                                   const Weights& weights,
                                                                   MaskShape shape) {
  if (options.policies.empty()) return PolicySnapshot::Empty(weights.fingerprint(), shape);
  std::error_code error;
  if (!std::filesystem::is_directory(options.policies, error)) {
    return InvalidArgument("--policies {}: not a directory", options.policies.string());
  }
  auto snapshot = PolicySnapshot::Load(options.policies, weights.fingerprint(), shape);
  if (!snapshot.ok()) return At("--policies", options.policies, snapshot.status());
  return snapshot;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const ServerOptions& options) {
  std::error_code error;
  if (!std::filesystem::is_directory(options.model, error)) {
    return InvalidArgument("--model {}: not a directory", options.model.string());
  }
  auto checkpoint = Checkpoint::Open(options.model);
  if (!checkpoint.ok()) return At("--model", options.model, checkpoint.status());
  return checkpoint;
}

// Fills step_limits and memory, before the weights take any.
absl::Status PlanStart(const ServerOptions& options, const Checkpoint& checkpoint,
                       ServingModel* model) {
  StepLimits& limits = model->step_limits;
  limits.max_tokens = options.max_step_tokens;
  limits.max_logit_rows = options.max_step_tokens;
  limits.max_sequences = options.max_running;
  limits.max_context = checkpoint.config().max_context;
  limits.mask_slots = options.mask_slots;
  limits.shadow_slots = options.tenants.empty() ? 0 : limits::kShadowSlots;
  const MemoryBudget budget = ProcessMemory();
  auto plan = PlanMemory(StoredModel::Of(checkpoint), {.limits = limits,
                                                       .threads = model->threads,
                                                       .max_queue = options.max_queue,
                                                       .kv_tokens = options.kv_tokens,
                                                       .memory = budget.bytes,
                                                       .shared = !budget.limited});
  if (!plan.ok()) return plan.status();
  model->memory = *plan;
  limits.kv_blocks = plan->kv_blocks;
  spdlog::debug("memory: {} of {} planned{}", FormatBytes(plan->Total()), FormatBytes(budget.bytes),
                budget.limited ? ", limited by cgroup" : "");
  return absl::OkStatus();
}

absl::Status LoadCheckpoint(const ServerOptions& options, const Checkpoint& checkpoint,
                            ServingModel* model) {
  MONET_ASSIGN_OR_RETURN(model->backend, MakeBackend("cpu", model->threads));
  if (model->backend == nullptr) return InvalidArgument("this machine has no usable CPU backend");
  auto weights = LoadWeights(checkpoint, model->backend.get(), model->threads);
  if (!weights.ok()) return At("--model", options.model, weights.status());
  model->weights = *std::move(weights);
  auto tokenizer = Tokenizer::FromFile(options.model / "tokenizer.model");
  if (!tokenizer.ok()) return At("--model", options.model, tokenizer.status());
  model->tokenizer = *std::move(tokenizer);
  const int32_t vocabulary = model->weights->config().vocabulary;
  if (model->tokenizer->vocabulary() != vocabulary) {
    return InvalidArgument("--model {}: tokenizer.model has {} tokens, config.json says {}",
                           options.model.string(), model->tokenizer->vocabulary(), vocabulary);
  }
  return absl::OkStatus();
}

absl::Status CheckChatTemplate(const ServingModel& model) {
  if (model.shape.chat_template == ChatTemplate::kNone) return absl::OkStatus();
  if (model.tokenizer->bos_id() >= 0 && model.tokenizer->eos_id() >= 0) return absl::OkStatus();
  return InvalidArgument("chat_template {}: tokenizer.model lacks <s> or </s>",
                         NameOf(model.shape.chat_template));
}

}  // namespace

std::string ModelName(const ServerOptions& options) {
  if (!options.model_name.empty()) return options.model_name;
  std::error_code error;
  const std::filesystem::path full = std::filesystem::weakly_canonical(options.model, error);
  std::string name = (error ? options.model : full).filename().string();
  // A folder's name may be any bytes; one that is no UTF-8 would spoil every response.
  std::replace_if(name.begin(), name.end(), std::not_fn(IsNameCharacter), '_');
  name.resize(std::min(name.size(), limits::kMaxModelNameBytes));
  return name.empty() ? "model" : name;
}

absl::StatusOr<std::unique_ptr<TenantRegistry>> LoadTenants(const ServerOptions& options) {
  return TenantRegistry::Load({.tenants = options.tenants,
                               .keys = options.keys,
                               .client_certificates = !options.tls_client_ca.empty()});
}

absl::StatusOr<std::unique_ptr<ServingModel>> LoadServingModel(
    const ServerOptions& options, std::function<void(const StepReport&)> on_step) {
  auto model = std::make_unique<ServingModel>();
  model->threads = options.threads > 0 ? options.threads : AvailableCpus();
  MONET_ASSIGN_OR_RETURN(const auto checkpoint, OpenCheckpoint(options));
  MONET_RETURN_IF_ERROR(PlanStart(options, *checkpoint, model.get()));
  MONET_RETURN_IF_ERROR(LoadCheckpoint(options, *checkpoint, model.get()));
  const ModelConfig& config = model->weights->config();
  model->shape = {ModelName(options),
                  MaskShape{config.Routers(), config.experts},
                  config.vocabulary,
                  config.max_context,
                  model->tokenizer->MaxTextBytes(config.max_context),
                  ChatTemplateNamed(options.chat_template)};
  MONET_RETURN_IF_ERROR(CheckChatTemplate(*model));
  model->system_fingerprint = SystemFingerprint(*model->backend, *model->weights);
  MONET_ASSIGN_OR_RETURN(auto snapshot, LoadPolicies(options, *model->weights, model->shape.mask));
  model->policies = std::make_unique<PolicyRegistry>(std::move(snapshot));

  auto forward = Forward::Create(model->backend.get(), model->weights.get(), model->step_limits);
  if (!forward.ok()) return At("--model", options.model, forward.status());
  model->forward = *std::move(forward);

  model->engine_options.max_queue = options.max_queue;
  model->engine_options.share_queue = !options.tenants.empty();
  model->engine_options.step_target = options.step_target;
  model->engine = std::make_unique<Engine>(model->forward.get(), model->tokenizer.get(),
                                           model->engine_options, std::move(on_step));
  return model;
}

}  // namespace monet::server
