// Everything that belongs to the loaded model, in one owner: backend, weights, tokenizer, policies,
// engine.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "kernels/backend.h"
#include "runtime/base/status.h"
#include "runtime/engine/engine.h"
#include "runtime/model/forward.h"
#include "runtime/model/memory_plan.h"
#include "runtime/model/weights.h"
#include "runtime/policy/registry.h"
#include "runtime/tenant/tenant_registry.h"
#include "runtime/tokenizer/tokenizer.h"
#include "server/options.h"
#include "server/request_conversion.h"

namespace monet::server {

// Immutable once made but for the registry and the engine, which are thread-safe. Members are in
// order of dependence: each outlives those after it.
struct ServingModel {
  std::string system_fingerprint;  // build, backend, numerics, dtype, model
  ServedShape shape;
  EngineOptions engine_options;
  StepLimits step_limits;
  MemoryPlan memory;
  int32_t threads = 0;

  std::unique_ptr<kernels::Backend> backend;
  std::unique_ptr<Weights> weights;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Forward> forward;
  std::unique_ptr<PolicyRegistry> policies;
  std::unique_ptr<Engine> engine;
};

// The model's name in the API: configured, or the name of its directory with '_' for
// every byte that IsNameCharacter refuses; at most kMaxModelNameBytes.
std::string ModelName(const ServerOptions& options);

// The tenants of the settings. Errors: of TenantRegistry::Load.
absl::StatusOr<std::unique_ptr<TenantRegistry>> LoadTenants(const ServerOptions& options);

// Loads checkpoint and policies and starts the engine. Errors name the file or the setting.
absl::StatusOr<std::unique_ptr<ServingModel>> LoadServingModel(
    const ServerOptions& options, std::function<void(const StepReport&)> on_step);

}  // namespace monet::server
