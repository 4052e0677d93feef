// monetctl plan: how much memory a server of a model takes, from its headers alone.
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "cli/commands.h"
#include "cli/exit_status.h"
#include "cli/options.h"
#include "runtime/base/bounded_file.h"
#include "runtime/limits.h"
#include "runtime/model/checkpoint.h"
#include "runtime/model/memory_plan.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl plan --model models/demo --memory 1Gi\n"
    "  monetctl plan --model monet-1.4b --memory 16Gi --threads 8 --helm\n\n"
    "Reads config.json and the headers of the safetensors files, never the weights; with "
    "config.json\n"
    "alone it takes the weights for bf16. The arithmetic is the one that monet-server starts with; "
    "exit\n"
    "code 1 when the memory is not enough. Requests with distinct masks share nothing of the "
    "cache:\n"
    "plan a context for each of them, as for any other request.";

struct PlanArguments {
  explicit PlanArguments(CLI::App* app) {
    model = AddValue(app, "--model", "DIR", "Checkpoint directory")->required();
    memory = AddValue(app, "--memory", "SIZE",
                      "What the process may have: bytes, or with Ki, Mi, Gi, Ti, k, M, G, T")
                 ->required();
    threads = AddValue(app, "--threads", "N", "Computing threads, as the server. Default: 4");
    kv_tokens = AddValue(app, "--kv-tokens", "N",
                         "Tokens of cache, as the server. Default: 32 contexts, or what is left");
    max_running = AddValue(app, "--max-running", "N", "As the server. Default: 32");
    max_queue = AddValue(app, "--max-queue", "N", "As the server. Default: 256");
    mask_slots = AddValue(app, "--mask-slots", "N", "As the server. Default: 8");
    step_tokens = AddValue(app, "--max-step-tokens", "N", "As the server. Default: 64");
    app->add_flag("--tenants", tenants, "The server will have tenants: counts shadow slots");
    app->add_flag("--json", json, "Print one JSON object");
    app->add_flag("--helm", helm,
                  "Print plan.memory for a model in the Helm chart's values (models.NAME)");
  }

  CLI::Option *model, *memory, *threads, *kv_tokens, *max_running, *max_queue, *mask_slots,
      *step_tokens;
  bool tenants = false;
  bool json = false;
  bool helm = false;
};

// A quantity as Kubernetes writes memory, whole bytes only.
absl::StatusOr<int64_t> ParseMemory(const std::string& text) {
  constexpr std::pair<std::string_view, int64_t> kUnits[] = {
      {"", 1},     {"Ki", 1 << 10}, {"Mi", 1 << 20},   {"Gi", 1 << 30},     {"Ti", 1LL << 40},
      {"k", 1000}, {"M", 1000000},  {"G", 1000000000}, {"T", 1000000000000}};
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  for (const auto& [unit, factor] : kUnits) {
    if (digits == 0 || digits > 18 || text.substr(digits) != unit) continue;
    int64_t bytes = 0;
    if (__builtin_mul_overflow(std::stoll(text.substr(0, digits)), factor, &bytes)) break;
    if (bytes > 0) return bytes;
  }
  return InvalidArgument("--memory is '{}', must be like 8Gi, 512Mi or 2000000000", text);
}

absl::StatusOr<int32_t> NumberOf(const CLI::Option* option, int32_t low, int32_t high,
                                 int32_t otherwise) {
  MONET_ASSIGN_OR_RETURN(const std::optional<int32_t> value, Int32Of(option));
  if (!value.has_value()) return otherwise;
  if (*value < low || *value > high) {
    return InvalidArgument("{} is {}, allowed {} to {}", option->get_name(), *value, low, high);
  }
  return *value;
}

// Ranges as the server's settings.
absl::StatusOr<MemoryRequest> RequestOf(const PlanArguments& arguments) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  MemoryRequest request;
  MONET_ASSIGN_OR_RETURN(const auto memory, TextOf(arguments.memory));
  MONET_ASSIGN_OR_RETURN(request.memory, ParseMemory(*memory));
  MONET_ASSIGN_OR_RETURN(request.threads, NumberOf(arguments.threads, 1, 1024, 4));
  MONET_ASSIGN_OR_RETURN(request.kv_tokens, NumberOf(arguments.kv_tokens, 1, kMost, 0));
  MONET_ASSIGN_OR_RETURN(request.max_queue, NumberOf(arguments.max_queue, 1, 100000, 256));
  StepLimits& limits = request.limits;
  MONET_ASSIGN_OR_RETURN(limits.max_sequences, NumberOf(arguments.max_running, 1, 1024, 32));
  MONET_ASSIGN_OR_RETURN(limits.mask_slots,
                         NumberOf(arguments.mask_slots, 1, limits::kMaxMaskSlots, 8));
  MONET_ASSIGN_OR_RETURN(limits.max_tokens, NumberOf(arguments.step_tokens, 1, 4096, 64));
  limits.max_logit_rows = limits.max_tokens;
  limits.shadow_slots = arguments.tenants ? limits::kShadowSlots : 0;
  if (limits.max_tokens < limits.max_sequences) {
    return InvalidArgument("--max-step-tokens is {}, at least --max-running, {}", limits.max_tokens,
                           limits.max_sequences);
  }
  return request;
}

bool HasWeights(const std::filesystem::path& directory) {
  std::error_code error;
  return std::filesystem::exists(directory / "model.safetensors", error) ||
         std::filesystem::exists(directory / "model.safetensors.index.json", error);
}

// `assumed`: from config.json alone.
absl::StatusOr<StoredModel> ReadModel(const std::filesystem::path& directory, bool assumed) {
  if (!assumed) {
    MONET_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(directory));
    return StoredModel::Of(*checkpoint);
  }
  MONET_ASSIGN_OR_RETURN(const std::string text,
                         ReadBoundedFile(directory / "config.json", limits::kMaxConfigBytes));
  auto config = ParseModelConfig(text);
  if (!config.ok()) return InvalidArgument("config.json: {}", Message(config.status()));
  return StoredModel::Assume(*config, TensorDType::kBF16);
}

nlohmann::ordered_json Json(const MemoryPlan& plan, const ModelConfig& config, bool assumed) {
  return {{"memory", plan.memory},
          {"weights", plan.weights},
          {"kv_cache", plan.kv_cache},
          {"activations", plan.activations},
          {"masks", plan.masks},
          {"requests", plan.requests},
          {"reserve", plan.reserve},
          {"total", plan.Total()},
          {"peak", plan.Peak()},
          {"minimum", plan.minimum},
          {"dtype", "fp32"},
          {"weights_assumed", assumed},
          {"kv_bytes_per_token", plan.token_bytes},
          {"kv_bytes_per_token_bf16", KvBytesPerToken(config, 2)},
          {"kv_blocks", plan.kv_blocks},
          {"block_size", plan.block_size},
          {"kv_tokens", plan.KvTokens()},
          {"context", plan.max_context},
          {"contexts", plan.KvTokens() / plan.max_context},
          {"mask_slots", plan.mask_slots},
          {"shadow_slots", plan.shadow_slots}};
}

std::string Text(const MemoryPlan& plan, const ModelConfig& config, bool assumed) {
  std::string text = MemoryTable(plan, "");
  text += fmt::format("\nThe least memory, for a cache of one context: {} ({} bytes).\n",
                      FormatBytes(plan.minimum), plan.minimum);
  text += fmt::format(
      "Keys and values take {} KiB a token (fp32, all this version has); bf16 would take {}.\n",
      plan.token_bytes / 1024, KvBytesPerToken(config, 2) / 1024);
  text += "Requests with distinct masks share nothing of the cache: each has its own context.\n";
  if (assumed) text += "No safetensors files there: the weights are taken for bf16.\n";
  return text;
}

absl::Status RunPlan(const PlanArguments& arguments, const Session& session) {
  if (arguments.json && arguments.helm) return InvalidArgument("--json and --helm: give one");
  MONET_ASSIGN_OR_RETURN(const auto directory, TextOf(arguments.model));
  MONET_ASSIGN_OR_RETURN(const MemoryRequest request, RequestOf(arguments));
  const bool assumed = !HasWeights(*directory);
  const auto model = ReadModel(*directory, assumed);
  if (!model.ok()) {
    return Error(model.status().code(), "{}: {}", *directory, Message(model.status()));
  }
  const auto plan = PlanMemory(*model, request);
  if (absl::IsResourceExhausted(plan.status())) return MarkCallFailed(plan.status());
  if (!plan.ok()) return plan.status();
  if (arguments.helm) {
    return session.console->Write(fmt::format("plan:\n  memory: {}\n", plan->Peak()));
  }
  if (arguments.json) {
    return session.console->Write(Json(*plan, model->config, assumed).dump(2) + "\n");
  }
  return session.console->Write(Text(*plan, model->config, assumed));
}

}  // namespace

Command AddPlan(CLI::App* root) {
  CLI::App* app = root->add_subcommand("plan", "How much memory a server of a model takes");
  app->footer(kExample);
  auto arguments = std::make_shared<PlanArguments>(app);
  return {app, [arguments](const Session& session) { return RunPlan(*arguments, session); }};
}

}  // namespace monet::cli
