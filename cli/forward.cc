// monetctl forward: a checkpoint's logits for given token ids, offline, with any backend.
#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/exit_status.h"
#include "cli/options.h"
#include "runtime/model/backend_factory.h"
#include "runtime/model/offline_forward.h"
#include "runtime/model/safetensors.h"
#include "runtime/model/weights.h"
#include "runtime/policy/expert_mask.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Example:\n"
    "  monetctl forward --model models/demo --backend reference --ids prompts.safetensors \\\n"
    "      --removed-key masked.rows.removed --out logits.safetensors\n\n"
    "FILE holds int32 'input_ids' [B, T], used as they are (put <s> there yourself), and the mask\n"
    "as uint8 [R, ceil(E*E/8)]: bit k of byte b of a router is expert 8b + k = i*E + j, 1 removes\n"
    "it. Other tensors are ignored. The output holds float32 'logits' [B, T, V]; it appears under\n"
    "its name only when complete. No server and no tokenizer is needed.";

struct ForwardArguments {
  explicit ForwardArguments(CLI::App* app) {
    model = AddValue(app, "--model", "DIR", "Checkpoint: config.json and its safetensors files")
                ->required();
    backend = AddValue(app, "--backend", "NAME",
                       "'cpu' or 'reference' (double precision, slow). Default: cpu");
    ids = AddValue(app, "--ids", "FILE", "Safetensors file with input_ids")->required();
    removed_key = AddValue(app, "--removed-key", "KEY",
                           "Tensor of the same file with the experts to remove, for all rows and\n"
                           "positions. Default: no mask");
    out = AddValue(app, "--out", "FILE",
                   "Safetensors file to write: a new one, or in the place of a regular file\n"
                   "(also of one that a link leads to)")
              ->required();
    threads = AddValue(app, "--threads", "N",
                       "Computing threads of 'cpu', and for reading the checkpoint, 1 to 1024.\n"
                       "Default: the processors that this process may use");
  }

  CLI::Option *model, *backend, *ids, *removed_key, *out, *threads;
};

// Token ids as in the file.
struct InputIds {
  std::vector<int32_t> ids;  // (sequences, length)
  int64_t sequences = 0;
  int64_t length = 0;
};

// The tensor `name` with `dtype` and two axes. Errors say what was expected.
absl::StatusOr<const TensorInfo*> FindMatrix(const SafetensorsFile& file, const std::string& name,
                                             TensorDType dtype) {
  const TensorInfo* info = file.Find(name);
  if (info == nullptr) {
    return InvalidArgument("{} has no tensor '{}'", file.name(), name);
  }
  if (info->dtype != dtype || info->shape.size() != 2) {
    return InvalidArgument("{}: tensor '{}' is {} with {} axes, must be {} with 2", file.name(),
                           name, DTypeName(info->dtype), info->shape.size(), DTypeName(dtype));
  }
  return info;
}

absl::StatusOr<InputIds> ReadInputIds(const SafetensorsFile& file) {
  MONET_ASSIGN_OR_RETURN(const TensorInfo* info, FindMatrix(file, "input_ids", TensorDType::kI32));
  InputIds input;
  input.sequences = info->shape[0];
  input.length = info->shape[1];
  if (input.sequences == 0 || input.length == 0) {
    return InvalidArgument("{}: tensor 'input_ids' is [{}, {}], there is nothing to compute",
                           file.name(), input.sequences, input.length);
  }
  input.ids.resize(info->bytes / sizeof(int32_t));
  MONET_RETURN_IF_ERROR(
      file.Read(*info, 0, std::span(reinterpret_cast<uint8_t*>(input.ids.data()), info->bytes)));
  return input;
}

absl::Status CheckInputIds(const InputIds& input, const ModelConfig& config) {
  if (input.length > config.max_context) {
    return InvalidArgument("input_ids has {} positions, the model's context is {}", input.length,
                           config.max_context);
  }
  for (size_t i = 0; i < input.ids.size(); ++i) {
    if (input.ids[i] < 0 || input.ids[i] >= config.vocabulary) {
      return InvalidArgument(
          "input_ids[{}, {}] is {}, must be from 0 to {}", i / static_cast<size_t>(input.length),
          i % static_cast<size_t>(input.length), input.ids[i], config.vocabulary - 1);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ExpertMask>> ReadMask(const SafetensorsFile& file,
                                                           const std::string& key,
                                                           const ModelConfig& config) {
  MONET_ASSIGN_OR_RETURN(const TensorInfo* info, FindMatrix(file, key, TensorDType::kU8));
  const MaskShape shape{config.Routers(), config.experts};
  if (info->shape[0] != shape.routers ||
      info->shape[1] != static_cast<int64_t>(shape.BytesPerRouter())) {
    return InvalidArgument("{}: tensor '{}' is [{}, {}], must be [{}, {}] for this model",
                           file.name(), key, info->shape[0], info->shape[1], shape.routers,
                           shape.BytesPerRouter());
  }
  std::vector<uint8_t> bitmap(info->bytes);
  MONET_RETURN_IF_ERROR(file.Read(*info, 0, bitmap));
  auto mask = ExpertMask::FromBitmap(shape, std::move(bitmap));
  if (!mask.ok()) {
    return InvalidArgument("{}: tensor '{}': {}", file.name(), key, Message(mask.status()));
  }
  return mask;
}

// Logits (B, T, V), one sequence after the other so that progress can be told.
absl::StatusOr<std::unique_ptr<float[]>> ComputeLogits(kernels::Backend* backend,
                                                       const Weights& weights,
                                                       const InputIds& input,
                                                       const ExpertMask* mask, Console* console) {
  const size_t row = static_cast<size_t>(input.length) * weights.config().vocabulary;
  std::unique_ptr<float[]> logits(
      new (std::nothrow) float[static_cast<size_t>(input.sequences) * row]);
  if (logits == nullptr) {
    return Error(absl::StatusCode::kResourceExhausted, "no memory for logits [{}, {}, {}]",
                 input.sequences, input.length, weights.config().vocabulary);
  }
  for (int64_t s = 0; s < input.sequences; ++s) {
    console->Progress(fmt::format("sequence {} of {}", s + 1, input.sequences));
    const auto ids = std::span(input.ids).subspan(static_cast<size_t>(s * input.length),
                                                  static_cast<size_t>(input.length));
    MONET_ASSIGN_OR_RETURN(const std::vector<float> result,
                           ForwardLogits(backend, weights, TokenBatch{ids, 1, input.length}, mask));
    std::copy(result.begin(), result.end(), logits.get() + static_cast<size_t>(s) * row);
  }
  console->ClearProgress();
  return logits;
}

absl::Status WriteLogits(const std::string& path, const float* logits, const InputIds& input,
                         int32_t vocabulary) {
  TensorToWrite tensor;
  tensor.name = "logits";
  tensor.dtype = TensorDType::kF32;
  tensor.shape = {input.sequences, input.length, vocabulary};
  const size_t count = input.ids.size() * static_cast<size_t>(vocabulary);
  tensor.bytes = std::span(reinterpret_cast<const uint8_t*>(logits), count * sizeof(float));
  return WriteSafetensors(path, {tensor});
}

absl::Status RunForward(const ForwardArguments& arguments, const Session& session) {
  const auto path_of = [](const CLI::Option* option) { return option->results()[0]; };
  const int32_t processors = static_cast<int32_t>(std::thread::hardware_concurrency());
  MONET_ASSIGN_OR_RETURN(const std::optional<int32_t> given_threads, Int32Of(arguments.threads));
  const int32_t threads = given_threads.value_or(std::clamp(processors, 1, 1024));
  MONET_ASSIGN_OR_RETURN(const std::optional<std::string> name, TextOf(arguments.backend));
  MONET_ASSIGN_OR_RETURN(const std::optional<std::string> key, TextOf(arguments.removed_key));
  MONET_RETURN_IF_ERROR(CheckOutput(arguments.out));

  MONET_ASSIGN_OR_RETURN(const auto backend, MakeBackend(name.value_or("cpu"), threads));
  MONET_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path_of(arguments.ids)));
  MONET_ASSIGN_OR_RETURN(const InputIds input, ReadInputIds(*file));
  session.console->Progress("reading the checkpoint");
  MONET_ASSIGN_OR_RETURN(const auto weights,
                         LoadWeights(path_of(arguments.model), backend.get(), threads));
  MONET_RETURN_IF_ERROR(CheckInputIds(input, weights->config()));
  std::shared_ptr<const ExpertMask> mask;
  if (key.has_value()) {
    MONET_ASSIGN_OR_RETURN(mask, ReadMask(*file, *key, weights->config()));
  }
  MONET_ASSIGN_OR_RETURN(const auto logits, ComputeLogits(backend.get(), *weights, input,
                                                          mask.get(), session.console));
  // A signal waits until the file is whole or gone.
  Interrupts::Scope scope(session.interrupts, [] {});
  MONET_RETURN_IF_ERROR(
      WriteLogits(path_of(arguments.out), logits.get(), input, weights->config().vocabulary));
  const int signal = session.interrupts->signal();
  return signal == 0 ? absl::OkStatus() : Interrupted(signal);
}

}  // namespace

Command AddForward(CLI::App* root) {
  CLI::App* app = root->add_subcommand("forward", "Logits of token ids, offline");
  app->footer(kExample);
  auto arguments = std::make_shared<ForwardArguments>(app);
  return {app, [arguments](const Session& session) { return RunForward(*arguments, session); }};
}

}  // namespace monet::cli
