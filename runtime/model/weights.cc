#include "runtime/model/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <mutex>
#include <span>

#include "kernels/bf16.h"
#include "runtime/model/checkpoint.h"
#include "runtime/model/expert_packing.h"
#include "runtime/model/fingerprint.h"
#include "runtime/model/parallel_tasks.h"

namespace monet {
namespace {

using kernels::Matrix;

constexpr uint64_t kChunkBytes = 8 << 20;  // of a matrix on its way to the backend

// A tensor's bytes on the host. 64-bit words, so that elements are aligned.
struct HostTensor {
  std::vector<uint64_t> words;
  uint64_t bytes = 0;

  explicit HostTensor(uint64_t count) : words((count + 7) / 8), bytes(count) {}
  std::span<uint8_t> span() { return {reinterpret_cast<uint8_t*>(words.data()), bytes}; }
  const void* data() const { return words.data(); }
};

kernels::DType KernelDType(TensorDType dtype) {
  return dtype == TensorDType::kBF16 ? kernels::DType::kBF16 : kernels::DType::kF32;
}

// NaN and infinities have all exponent bits set.
bool AllFinite(const void* data, uint64_t bytes, TensorDType dtype) {
  bool finite = true;
  if (dtype == TensorDType::kBF16) {
    const auto* values = static_cast<const uint16_t*>(data);
    for (uint64_t i = 0; i < bytes / 2; ++i) finite &= (values[i] & 0x7f80) != 0x7f80;
  } else {
    const auto* values = static_cast<const uint32_t*>(data);
    for (uint64_t i = 0; i < bytes / 4; ++i) finite &= (values[i] & 0x7f800000) != 0x7f800000;
  }
  return finite;
}

std::vector<float> ToFloats(const HostTensor& host, TensorDType dtype) {
  std::vector<float> out(host.bytes / DTypeBytes(dtype));
  if (dtype == TensorDType::kBF16) {
    const auto* values = static_cast<const uint16_t*>(host.data());
    std::transform(values, values + out.size(), out.begin(), kernels::WidenBf16);
  } else {
    std::memcpy(out.data(), host.data(), host.bytes);
  }
  return out;
}

Matrix HostMatrix(const HostTensor& host, const CheckpointTensor& tensor) {
  return {.data = host.data(),
          .dtype = KernelDType(tensor.info.dtype),
          .rows = tensor.info.shape[0],
          .cols = tensor.info.shape[1]};
}

class LoadedWeights final : public Weights {
 public:
  explicit LoadedWeights(kernels::Backend* backend) : backend_(backend) {}
  ~LoadedWeights() override {
    for (void* memory : allocations_) backend_->Free(memory);
  }

 private:
  friend class WeightsLoader;

  kernels::Backend* backend_;
  std::vector<void*> allocations_;
};

// Turns a checked checkpoint into weights: every tensor is read once, hashed, checked and brought
// into its layout by one task; tasks run on several threads, the backend is called by one at a
// time. Host memory: one layer's `down` parts and their packed form per thread at most.
class WeightsLoader {
 public:
  WeightsLoader(const Checkpoint& checkpoint, kernels::Backend* backend)
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        backend_(backend),
        weights_(std::make_unique<LoadedWeights>(backend)),
        digests_(checkpoint.tensors().size()) {}

  absl::StatusOr<std::unique_ptr<Weights>> Load(int32_t threads);

 private:
  void AddTask(std::function<absl::Status()> task) { tasks_.push_back(std::move(task)); }
  void AddMatrix(TensorRole role, int32_t layer, Matrix* out);
  void AddFloats(TensorRole role, int32_t layer, const float** out);
  void AddModelTasks();
  void AddLayerTasks(int32_t layer);
  void AddExpertTasks(int32_t layer, kernels::ExpertWeights* experts);
  void AddRouterTasks(int32_t layer, RouterWeights* router);
  void AddDown(std::vector<TensorRole> down, TensorRole bias, int32_t layer,
               kernels::ExpertDown* out);

  absl::Status LoadMatrix(const CheckpointTensor& tensor, Matrix* out);
  absl::Status LoadFloats(const CheckpointTensor& tensor, const float** out);
  absl::Status LoadDown(const std::vector<TensorRole>& down, TensorRole bias, int32_t layer,
                        kernels::ExpertDown* out);
  absl::Status LoadThresholds(TensorRole mean, TensorRole variance, int32_t layer,
                              const float** out);
  absl::Status LoadRopeTables();

  absl::Status CheckFinite(const CheckpointTensor& tensor, const void* data, uint64_t bytes) const;
  // Reads, checks and hashes a whole tensor.
  absl::StatusOr<HostTensor> ReadTensor(const CheckpointTensor& tensor);
  absl::StatusOr<void*> Alloc(uint64_t bytes);
  void CopyIn(void* device, uint64_t offset, std::span<const uint8_t> bytes);
  absl::Status Upload(std::span<const float> values, const float** out);
  void StoreDigest(const CheckpointTensor& tensor, Hasher* hasher) {
    digests_[tensor.index] = DescribeTensor(tensor, hasher->Finish());
  }

  const Checkpoint& checkpoint_;
  const ModelConfig config_;
  kernels::Backend* const backend_;
  std::unique_ptr<LoadedWeights> weights_;
  std::vector<TensorDigest> digests_;  // one a tensor; each written by one task
  std::vector<std::function<absl::Status()>> tasks_;
  std::mutex backend_mutex_;  // guards backend_ and the weights' allocations
};

absl::StatusOr<std::unique_ptr<Weights>> WeightsLoader::Load(int32_t threads) {
  weights_->layers.resize(config_.layers);
  weights_->routers.resize(config_.Routers());
  AddModelTasks();
  for (int32_t layer = 0; layer < config_.layers; ++layer) AddLayerTasks(layer);
  MONET_RETURN_IF_ERROR(RunTasks(tasks_, threads));
  if (config_.tied) weights_->head = weights_->embedding;
  weights_->config_ = config_;
  weights_->fingerprint_ = ModelFingerprint(config_, std::move(digests_));
  backend_->Synchronize();
  return std::move(weights_);
}

void WeightsLoader::AddMatrix(TensorRole role, int32_t layer, Matrix* out) {
  AddTask([this, role, layer, out] { return LoadMatrix(checkpoint_.Get(role, layer), out); });
}

void WeightsLoader::AddFloats(TensorRole role, int32_t layer, const float** out) {
  AddTask([this, role, layer, out] { return LoadFloats(checkpoint_.Get(role, layer), out); });
}

void WeightsLoader::AddModelTasks() {
  AddMatrix(TensorRole::kEmbedding, -1, &weights_->embedding);
  if (!config_.tied) AddMatrix(TensorRole::kHead, -1, &weights_->head);
  AddFloats(TensorRole::kFinalNorm, -1, &weights_->final_norm);
  AddTask([this] { return LoadRopeTables(); });
}

void WeightsLoader::AddLayerTasks(int32_t layer) {
  LayerWeights* out = &weights_->layers[layer];
  AddFloats(TensorRole::kInputNorm, layer, &out->input_norm);
  AddFloats(TensorRole::kPostAttentionNorm, layer, &out->post_attention_norm);
  AddMatrix(TensorRole::kQuery, layer, &out->q);
  AddMatrix(TensorRole::kKey, layer, &out->k);
  AddMatrix(TensorRole::kValue, layer, &out->v);
  AddMatrix(TensorRole::kOutput, layer, &out->o);
  if (layer % config_.group_layers == 0) {
    AddRouterTasks(layer, &weights_->routers[config_.RouterOf(layer)]);
  }
  AddExpertTasks(layer, &out->experts);
}

void WeightsLoader::AddRouterTasks(int32_t layer, RouterWeights* router) {
  AddMatrix(TensorRole::kRouter1, layer, &router->w1);
  AddMatrix(TensorRole::kRouter2, layer, &router->w2);
  AddTask([this, layer, router] {
    return LoadThresholds(TensorRole::kMean1, TensorRole::kVariance1, layer, &router->threshold1);
  });
  AddTask([this, layer, router] {
    return LoadThresholds(TensorRole::kMean2, TensorRole::kVariance2, layer, &router->threshold2);
  });
}

void WeightsLoader::AddExpertTasks(int32_t layer, kernels::ExpertWeights* experts) {
  experts->decompose = config_.decompose;
  AddMatrix(TensorRole::kUp1, layer, &experts->up1.weight);
  AddFloats(TensorRole::kUp1Bias, layer, &experts->up1.bias);
  if (config_.decompose == kernels::Decompose::kHorizontal) {
    AddDown({TensorRole::kDown}, TensorRole::kDownBias2, layer, &experts->down2);
    return;
  }
  AddMatrix(TensorRole::kUp2, layer, &experts->up2.weight);
  AddFloats(TensorRole::kUp2Bias, layer, &experts->up2.bias);
  AddDown({TensorRole::kDown11, TensorRole::kDown12}, TensorRole::kDownBias1, layer,
          &experts->down1);
  AddDown({TensorRole::kDown21, TensorRole::kDown22}, TensorRole::kDownBias2, layer,
          &experts->down2);
}

void WeightsLoader::AddDown(std::vector<TensorRole> down, TensorRole bias, int32_t layer,
                            kernels::ExpertDown* out) {
  AddTask([this, down = std::move(down), bias, layer, out] {
    return LoadDown(down, bias, layer, out);
  });
}

absl::Status WeightsLoader::CheckFinite(const CheckpointTensor& tensor, const void* data,
                                        uint64_t bytes) const {
  if (AllFinite(data, bytes, tensor.info.dtype)) return absl::OkStatus();
  return InvalidArgument("{}: tensor {} holds a NaN or an infinity", tensor.file->name(),
                         tensor.spec.name);
}

absl::StatusOr<HostTensor> WeightsLoader::ReadTensor(const CheckpointTensor& tensor) {
  HostTensor host(tensor.info.bytes);
  MONET_RETURN_IF_ERROR(checkpoint_.Read(tensor, 0, host.span()));
  MONET_RETURN_IF_ERROR(CheckFinite(tensor, host.data(), host.bytes));
  Hasher hasher;
  hasher.Update(host.span());
  StoreDigest(tensor, &hasher);
  return host;
}

absl::StatusOr<void*> WeightsLoader::Alloc(uint64_t bytes) {
  const std::lock_guard lock(backend_mutex_);
  void* memory = backend_->Alloc(bytes);
  if (memory == nullptr) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "out of memory: the weights need {} more bytes", bytes);
  }
  weights_->allocations_.push_back(memory);
  weights_->bytes_ += bytes;
  return memory;
}

void WeightsLoader::CopyIn(void* device, uint64_t offset, std::span<const uint8_t> bytes) {
  const std::lock_guard lock(backend_mutex_);
  backend_->CopyIn(static_cast<uint8_t*>(device) + offset, bytes.data(), bytes.size());
}

absl::Status WeightsLoader::Upload(std::span<const float> values, const float** out) {
  MONET_ASSIGN_OR_RETURN(void* memory, Alloc(values.size_bytes()));
  CopyIn(memory, 0, {reinterpret_cast<const uint8_t*>(values.data()), values.size_bytes()});
  *out = static_cast<const float*>(memory);
  return absl::OkStatus();
}

absl::Status WeightsLoader::LoadMatrix(const CheckpointTensor& tensor, Matrix* out) {
  const uint64_t bytes = tensor.info.bytes;
  MONET_ASSIGN_OR_RETURN(void* memory, Alloc(bytes));
  HostTensor chunk(std::min(kChunkBytes, bytes));
  Hasher hasher;
  for (uint64_t begin = 0; begin < bytes; begin += chunk.bytes) {
    const auto part = chunk.span().first(std::min(chunk.bytes, bytes - begin));
    MONET_RETURN_IF_ERROR(checkpoint_.Read(tensor, begin, part));
    MONET_RETURN_IF_ERROR(CheckFinite(tensor, part.data(), part.size()));
    hasher.Update(part);
    CopyIn(memory, begin, part);
  }
  StoreDigest(tensor, &hasher);
  *out = {.data = memory,
          .dtype = KernelDType(tensor.info.dtype),
          .rows = tensor.info.shape[0],
          .cols = tensor.info.shape[1]};
  return absl::OkStatus();
}

absl::Status WeightsLoader::LoadFloats(const CheckpointTensor& tensor, const float** out) {
  MONET_ASSIGN_OR_RETURN(const HostTensor host, ReadTensor(tensor));
  return Upload(ToFloats(host, tensor.info.dtype), out);
}

absl::Status WeightsLoader::LoadDown(const std::vector<TensorRole>& down, TensorRole bias,
                                     int32_t layer, kernels::ExpertDown* out) {
  ExpertDownParts parts{.units = config_.UpUnits()};
  std::vector<HostTensor> hosts;
  for (TensorRole role : down) {
    const CheckpointTensor& tensor = checkpoint_.Get(role, layer);
    MONET_ASSIGN_OR_RETURN(HostTensor host, ReadTensor(tensor));
    hosts.push_back(std::move(host));
    parts.down.push_back(HostMatrix(hosts.back(), tensor));
  }
  const CheckpointTensor& bias_tensor = checkpoint_.Get(bias, layer);
  MONET_ASSIGN_OR_RETURN(const HostTensor bias_host, ReadTensor(bias_tensor));
  parts.bias = HostMatrix(bias_host, bias_tensor);
  const kernels::DType dtype = PackedDType(parts);
  HostTensor packed(PackedElements(parts) * kernels::SizeOf(dtype));
  PackExpertDown(parts, packed.span().data());
  MONET_ASSIGN_OR_RETURN(void* memory, Alloc(packed.bytes));
  CopyIn(memory, 0, packed.span());
  *out = {.blocks = memory, .dtype = dtype};
  return absl::OkStatus();
}

absl::Status WeightsLoader::LoadThresholds(TensorRole mean, TensorRole variance, int32_t layer,
                                           const float** out) {
  const CheckpointTensor& mean_tensor = checkpoint_.Get(mean, layer);
  const CheckpointTensor& variance_tensor = checkpoint_.Get(variance, layer);
  MONET_ASSIGN_OR_RETURN(const HostTensor mean_host, ReadTensor(mean_tensor));
  MONET_ASSIGN_OR_RETURN(const HostTensor variance_host, ReadTensor(variance_tensor));
  const std::vector<float> means = ToFloats(mean_host, mean_tensor.info.dtype);
  const std::vector<float> variances = ToFloats(variance_host, variance_tensor.info.dtype);
  std::vector<float> thresholds(means.size());
  for (size_t h = 0; h < means.size(); ++h) {
    if (variances[h] < 0) {
      return InvalidArgument("{}: tensor {} holds a negative variance",
                             variance_tensor.file->name(), variance_tensor.spec.name);
    }
    thresholds[h] =
        static_cast<float>(RouterThreshold(means[h], variances[h], config_.top_k, config_.experts));
  }
  return Upload(thresholds, out);
}

absl::Status WeightsLoader::LoadRopeTables() {
  const int32_t half = config_.HeadDim() / 2;
  const size_t entries = static_cast<size_t>(config_.max_context) * half;
  std::vector<float> cos(entries);
  std::vector<float> sin(entries);
  for (int32_t f = 0; f < half; ++f) {
    const double frequency = std::pow(config_.rope_theta, -2.0 * f / config_.HeadDim());
    for (int32_t p = 0; p < config_.max_context; ++p) {
      const double angle = p * frequency;
      cos[static_cast<size_t>(p) * half + f] = static_cast<float>(std::cos(angle));
      sin[static_cast<size_t>(p) * half + f] = static_cast<float>(std::sin(angle));
    }
  }
  MONET_RETURN_IF_ERROR(Upload(cos, &weights_->rope_cos));
  return Upload(sin, &weights_->rope_sin);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Weights>> LoadWeights(const std::filesystem::path& directory,
                                                     kernels::Backend* backend, int32_t threads) {
  MONET_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(directory));
  return LoadWeights(*checkpoint, backend, threads);
}

absl::StatusOr<std::unique_ptr<Weights>> LoadWeights(const Checkpoint& checkpoint,
                                                     kernels::Backend* backend, int32_t threads) {
  return WeightsLoader(checkpoint, backend).Load(threads);
}

}  // namespace monet
