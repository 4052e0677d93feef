#include "runtime/model/forward.h"

#include <algorithm>
#include <new>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/model/step_limits.h"

namespace monet {
namespace {

using kernels::Backend;

// Memory of a backend that goes with its owner.
class DeviceMemory {
 public:
  explicit DeviceMemory(Backend* backend) : backend_(backend) {}
  ~DeviceMemory() {
    for (void* memory : allocations_) backend_->Free(memory);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Null, now and from then on, once the backend had no memory left.
  template <typename T>
  T* Alloc(size_t count) {
    void* memory = exhausted_ ? nullptr : backend_->Alloc(std::max<size_t>(count, 1) * sizeof(T));
    if (memory == nullptr) {
      exhausted_ = true;
      return nullptr;
    }
    allocations_.push_back(memory);
    return static_cast<T*>(memory);
  }
  bool exhausted() const { return exhausted_; }

 private:
  Backend* backend_;
  std::vector<void*> allocations_;
  bool exhausted_ = false;
};

}  // namespace

struct Forward::Impl {
  Impl(Backend* backend_in, const Weights* weights_in, const StepLimits& limits_in)
      : backend(backend_in),
        weights(weights_in),
        config(weights_in->config()),
        limits(limits_in),
        memory(backend_in) {}

  // Masks of rows, and the routing weight under them.
  struct MaskUse {
    int32_t* slots = nullptr;        // (T) device
    float* weight = nullptr;         // (T) device
    bool any = false;                // a row of the step has one
    std::vector<float> weight_host;  // (T)
  };

  absl::Status Allocate();
  void AllocateRouting();
  void CheckBatch(const StepBatch& batch) const;
  void CopyBatch(const StepBatch& batch);
  void Attend(int32_t layer);
  void RunExperts(int32_t layer);
  void Route(int32_t router);
  void BeginUse(const std::vector<int32_t>& slots, MaskUse* use);
  void AddWeight(int32_t router, const MaskUse& use);
  void EndUse(MaskUse* use);
  void KeepRouting();
  void Logits(const StepBatch& batch);
  void RmsNorm(const float* x, const int32_t* rows, int32_t count, const float* weight, float* out);
  void MatMul(const float* x, const kernels::Matrix& weight, const float* residual, int32_t count,
              float* out);
  void ObserveHidden(int32_t layer);
  void ObserveRouting(int32_t router);

  template <typename T>
  void CopyIn(T* device, const std::vector<T>& host) {
    if (!host.empty()) backend->CopyIn(device, host.data(), host.size() * sizeof(T));
  }

  int32_t TableStride() const {
    return (limits.max_context + limits.block_size - 1) / limits.block_size;
  }

  Backend* const backend;
  const Weights* const weights;
  const ModelConfig config;
  const StepLimits limits;
  ForwardObserver* observer = nullptr;

  // Device memory, all of it from Allocate().
  DeviceMemory memory;
  int32_t* token_ids = nullptr;    // (T)
  int32_t* positions = nullptr;    // (T)
  int32_t* sequences = nullptr;    // (T)
  int32_t* block_table = nullptr;  // (S, blocks a sequence can have)
  int32_t* logit_rows = nullptr;   // (N)
  float* hidden = nullptr;         // (T, D) residual stream
  float* normed = nullptr;         // (T, D)
  float* q = nullptr;              // (T, A, C)
  float* k = nullptr;              // (T, G, C)
  float* v = nullptr;              // (T, G, C)
  float* attention = nullptr;      // (T, A, C)
  float* logits = nullptr;         // (N, V)
  uint8_t* bitmaps = nullptr;      // (slots, R, bytes)
  kernels::KvCache cache;
  kernels::Routing routing;

  // The step that is running.
  kernels::RowMap rows;
  kernels::MaskTable masks;
  MaskUse applied;
  MaskUse shadow;
  std::span<const int32_t> routing_wanted;  // rows, of the batch

  // Host copies of the results.
  std::vector<float> logits_host;  // (N, V)
  RoutingRows routing_host;
  // One row of `routing`; empty until routing is asked for.
  std::vector<int32_t> row_count;   // (2, H)
  std::vector<uint16_t> row_index;  // (2, H, E)
  std::vector<float> row_gate;      // (2, H, E)
};

absl::Status Forward::Impl::Allocate() {
  const size_t tokens = limits.max_tokens;
  const size_t hidden_size = config.hidden;
  const size_t kv_width = static_cast<size_t>(config.kv_heads) * config.HeadDim();
  token_ids = memory.Alloc<int32_t>(tokens);
  positions = memory.Alloc<int32_t>(tokens);
  sequences = memory.Alloc<int32_t>(tokens);
  block_table = memory.Alloc<int32_t>(static_cast<size_t>(limits.max_sequences) * TableStride());
  logit_rows = memory.Alloc<int32_t>(limits.max_logit_rows);
  hidden = memory.Alloc<float>(tokens * hidden_size);
  normed = memory.Alloc<float>(tokens * hidden_size);
  q = memory.Alloc<float>(tokens * hidden_size);
  k = memory.Alloc<float>(tokens * kv_width);
  v = memory.Alloc<float>(tokens * kv_width);
  attention = memory.Alloc<float>(tokens * hidden_size);
  for (MaskUse* use : {&applied, &shadow}) {
    use->slots = memory.Alloc<int32_t>(tokens);
    use->weight = memory.Alloc<float>(tokens);
    use->weight_host.resize(tokens);
  }
  logits = memory.Alloc<float>(static_cast<size_t>(limits.max_logit_rows) * config.vocabulary);
  const MaskShape shape{.routers = config.Routers(), .experts = config.experts};
  bitmaps = memory.Alloc<uint8_t>((limits.mask_slots + limits.shadow_slots) * shape.Bytes());
  const size_t cache_size = kv_width * config.layers * limits.kv_blocks * limits.block_size;
  cache = {.keys = memory.Alloc<float>(cache_size),
           .values = memory.Alloc<float>(cache_size),
           .blocks = limits.kv_blocks,
           .block_size = limits.block_size,
           .kv_heads = config.kv_heads,
           .head_dim = config.HeadDim()};
  AllocateRouting();
  const bool prepared =
      !memory.exhausted() && backend->Prepare({.max_tokens = limits.max_tokens,
                                               .max_context = limits.max_context,
                                               .hidden = config.hidden,
                                               .heads = config.heads,
                                               .routing_heads = config.routing_heads,
                                               .experts = config.experts,
                                               .moe_dim = config.moe_dim});
  if (!prepared) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "out of memory: working memory for max_tokens {}, kv_blocks {}, mask_slots {}",
                 limits.max_tokens, limits.kv_blocks, limits.mask_slots);
  }
  masks = {.bitmaps = bitmaps,
           .routers = shape.routers,
           .bytes = static_cast<int32_t>(shape.BytesPerRouter()),
           .slot = applied.slots};
  logits_host.resize(static_cast<size_t>(limits.max_logit_rows) * config.vocabulary);
  return absl::OkStatus();
}

void Forward::Impl::AllocateRouting() {
  const size_t sides = static_cast<size_t>(limits.max_tokens) * 2;
  const size_t heads = sides * config.routing_heads;
  routing.count = memory.Alloc<int32_t>(heads);
  routing.index = memory.Alloc<uint16_t>(heads * config.experts);
  routing.gate = memory.Alloc<float>(heads * config.experts);
  routing.active_count = memory.Alloc<int32_t>(sides);
  routing.active = memory.Alloc<uint16_t>(sides * config.experts);
}

// O(T): nothing beside a step, and the only thing between a bug and foreign memory.
void Forward::Impl::CheckBatch(const StepBatch& batch) const {
  const int32_t tokens = batch.tokens();
  MONET_CHECK(tokens >= 1 && tokens <= limits.max_tokens);
  MONET_CHECK(batch.positions.size() == batch.token_ids.size());
  MONET_CHECK(batch.sequences.size() == batch.token_ids.size());
  MONET_CHECK(batch.mask_slots.size() == batch.token_ids.size());
  MONET_CHECK(batch.shadow_slots.empty() || batch.shadow_slots.size() == batch.token_ids.size());
  MONET_CHECK(batch.logit_rows.size() <= static_cast<size_t>(limits.max_logit_rows));
  MONET_CHECK(batch.table_stride >= 1 && batch.table_stride <= TableStride());
  const size_t stride = batch.table_stride;
  MONET_CHECK(batch.block_tables.size() % stride == 0);
  const size_t tables = batch.block_tables.size() / stride;
  MONET_CHECK(tables <= static_cast<size_t>(limits.max_sequences));
  for (int32_t t = 0; t < tokens; ++t) {
    const int32_t position = batch.positions[t];
    MONET_CHECK(batch.token_ids[t] >= 0 && batch.token_ids[t] < config.vocabulary);
    MONET_CHECK(position >= 0 && position < limits.max_context);
    MONET_CHECK(batch.mask_slots[t] >= -1 && batch.mask_slots[t] < limits.mask_slots);
    MONET_CHECK(batch.sequences[t] >= 0 && static_cast<size_t>(batch.sequences[t]) < tables);
    const size_t block = position / limits.block_size;
    MONET_CHECK(block < stride);
    // Blocks before this row's were checked when the rows that filled them ran; a changed table
    // would still be caught here for the last row of each sequence.
    const bool last = t + 1 == tokens || batch.sequences[t + 1] != batch.sequences[t];
    const int32_t* table = batch.block_tables.data() + batch.sequences[t] * stride;
    for (size_t b = last ? 0 : block; b <= block; ++b) {
      MONET_CHECK(table[b] >= 0 && table[b] < limits.kv_blocks);
    }
  }
  for (int32_t slot : batch.shadow_slots) {
    MONET_CHECK(slot == -1 ||
                (slot >= limits.mask_slots && slot < limits.mask_slots + limits.shadow_slots));
  }
  for (size_t n = 0; n < batch.logit_rows.size(); ++n) {
    MONET_CHECK(batch.logit_rows[n] >= 0 && batch.logit_rows[n] < tokens);
    MONET_CHECK(n == 0 || batch.logit_rows[n - 1] < batch.logit_rows[n]);
  }
  for (size_t n = 0; n < batch.routing_rows.size(); ++n) {
    MONET_CHECK(batch.routing_rows[n] >= 0 && batch.routing_rows[n] < tokens);
    MONET_CHECK(n == 0 || batch.routing_rows[n - 1] < batch.routing_rows[n]);
  }
}

void Forward::Impl::CopyBatch(const StepBatch& batch) {
  CopyIn(token_ids, batch.token_ids);
  CopyIn(positions, batch.positions);
  CopyIn(sequences, batch.sequences);
  CopyIn(block_table, batch.block_tables);
  CopyIn(logit_rows, batch.logit_rows);
  rows = {.tokens = batch.tokens(),
          .position = positions,
          .sequence = sequences,
          .block_table = block_table,
          .table_stride = batch.table_stride};
  BeginUse(batch.mask_slots, &applied);
  BeginUse(batch.shadow_slots, &shadow);
  routing_wanted = batch.routing_rows;
  if (!routing_wanted.empty()) {
    routing_host.Begin(static_cast<int32_t>(routing_wanted.size()), config.routing_heads);
  }
}

void Forward::Impl::BeginUse(const std::vector<int32_t>& slots, MaskUse* use) {
  CopyIn(use->slots, slots);
  use->any = std::any_of(slots.begin(), slots.end(), [](int32_t slot) { return slot >= 0; });
  std::fill_n(use->weight_host.begin(), rows.tokens, 0.0f);
  if (use->any) {
    backend->CopyIn(use->weight, use->weight_host.data(), rows.tokens * sizeof(float));
  }
}

void Forward::Impl::AddWeight(int32_t router, const MaskUse& use) {
  if (!use.any) return;
  kernels::MaskTable table = masks;
  table.slot = use.slots;
  backend->RemovedWeight({.routing = routing,
                          .masks = table,
                          .router = router,
                          .tokens = rows.tokens,
                          .routing_heads = config.routing_heads,
                          .experts = config.experts,
                          .removed = use.weight});
}

void Forward::Impl::EndUse(MaskUse* use) {
  if (!use->any) return;
  backend->CopyOut(use->weight_host.data(), use->weight, rows.tokens * sizeof(float));
}

void Forward::Impl::RmsNorm(const float* x, const int32_t* row_ids, int32_t count,
                            const float* weight, float* out) {
  backend->RmsNorm({.x = x,
                    .rows = row_ids,
                    .weight = weight,
                    .eps = static_cast<float>(config.rms_norm_eps),
                    .tokens = count,
                    .hidden = config.hidden,
                    .out = out});
}

void Forward::Impl::MatMul(const float* x, const kernels::Matrix& weight, const float* residual,
                           int32_t count, float* out) {
  backend->MatMul({.x = x, .weight = weight, .residual = residual, .tokens = count, .out = out});
}

void Forward::Impl::Attend(int32_t layer) {
  const LayerWeights& w = weights->layers[layer];
  const int32_t tokens = rows.tokens;
  RmsNorm(hidden, nullptr, tokens, w.input_norm, normed);
  MatMul(normed, w.q, nullptr, tokens, q);
  MatMul(normed, w.k, nullptr, tokens, k);
  MatMul(normed, w.v, nullptr, tokens, v);
  backend->RopeStore({.rows = rows,
                      .layer = layer,
                      .heads = config.heads,
                      .cos = weights->rope_cos,
                      .sin = weights->rope_sin,
                      .q = q,
                      .k = k,
                      .v = v,
                      .cache = cache});
  backend->Attention({.rows = rows,
                      .layer = layer,
                      .heads = config.heads,
                      .q = q,
                      .cache = cache,
                      .out = attention});
  MatMul(attention, w.o, hidden, tokens, hidden);
}

void Forward::Impl::Route(int32_t router) {
  const RouterWeights& w = weights->routers[router];
  backend->Route({.x = normed,
                  .w1 = w.w1,
                  .w2 = w.w2,
                  .threshold1 = w.threshold1,
                  .threshold2 = w.threshold2,
                  .tokens = rows.tokens,
                  .routing_heads = config.routing_heads,
                  .experts = config.experts,
                  .out = routing});
  ObserveRouting(router);
  KeepRouting();
  AddWeight(router, applied);
  AddWeight(router, shadow);
}

// Row by row, since the lists lie far apart and few rows ask.
void Forward::Impl::KeepRouting() {
  if (routing_wanted.empty()) return;
  const size_t lists = size_t{2} * config.routing_heads;
  const size_t entries = lists * config.experts;
  row_count.resize(lists);
  row_index.resize(entries);
  row_gate.resize(entries);
  for (const size_t row : routing_wanted) {
    backend->CopyOut(row_count.data(), routing.count + row * lists, lists * sizeof(int32_t));
    backend->CopyOut(row_index.data(), routing.index + row * entries, entries * sizeof(uint16_t));
    backend->CopyOut(row_gate.data(), routing.gate + row * entries, entries * sizeof(float));
    backend->Synchronize();
    routing_host.Add(row_count, row_index, row_gate, config.experts);
  }
}

void Forward::Impl::RunExperts(int32_t layer) {
  const LayerWeights& w = weights->layers[layer];
  RmsNorm(hidden, nullptr, rows.tokens, w.post_attention_norm, normed);
  if (layer % config.group_layers == 0) Route(config.RouterOf(layer));
  backend->Experts({.x = normed,
                    .routing = routing,
                    .masks = masks,
                    .router = config.RouterOf(layer),
                    .tokens = rows.tokens,
                    .hidden = config.hidden,
                    .routing_heads = config.routing_heads,
                    .experts = config.experts,
                    .moe_dim = config.moe_dim,
                    .weights = w.experts,
                    .residual = hidden,
                    .out = hidden});
}

// Only rows whose logits are wanted pass the final norm and the head.
void Forward::Impl::Logits(const StepBatch& batch) {
  const auto wanted = static_cast<int32_t>(batch.logit_rows.size());
  if (wanted == 0) return;
  RmsNorm(hidden, logit_rows, wanted, weights->final_norm, normed);
  MatMul(normed, weights->head, nullptr, wanted, logits);
  backend->CopyOut(logits_host.data(), logits,
                   static_cast<size_t>(wanted) * config.vocabulary * sizeof(float));
}

void Forward::Impl::ObserveHidden(int32_t layer) {
  if (observer == nullptr) return;
  const float* source = hidden;
  if (layer == config.layers) {
    RmsNorm(hidden, nullptr, rows.tokens, weights->final_norm, normed);
    source = normed;
  }
  std::vector<float> host(static_cast<size_t>(rows.tokens) * config.hidden);
  backend->CopyOut(host.data(), source, host.size() * sizeof(float));
  backend->Synchronize();
  observer->OnHidden(layer, host);
}

void Forward::Impl::ObserveRouting(int32_t router) {
  if (observer == nullptr) return;
  const size_t sides = static_cast<size_t>(rows.tokens) * 2;
  const size_t heads = sides * config.routing_heads;
  std::vector<int32_t> count(heads);
  std::vector<uint16_t> index(heads * config.experts);
  std::vector<float> gate(heads * config.experts);
  std::vector<int32_t> active_count(sides);
  std::vector<uint16_t> active(sides * config.experts);
  const auto copy = [this](auto* host, const auto* device) {
    backend->CopyOut(host->data(), device, host->size() * sizeof(*device));
  };
  copy(&count, routing.count);
  copy(&index, routing.index);
  copy(&gate, routing.gate);
  copy(&active_count, routing.active_count);
  copy(&active, routing.active);
  backend->Synchronize();
  observer->OnRouting(router,
                      {.count = count.data(),
                       .index = index.data(),
                       .gate = gate.data(),
                       .active_count = active_count.data(),
                       .active = active.data()},
                      rows.tokens);
}

Forward::Forward(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Forward::~Forward() = default;

absl::StatusOr<std::unique_ptr<Forward>> Forward::Create(Backend* backend, const Weights* weights,
                                                         const StepLimits& limits) {
  MONET_ASSIGN_OR_RETURN(const StepLimits checked, CheckStepLimits(limits, weights->config()));
  auto impl = std::make_unique<Impl>(backend, weights, checked);
  try {
    MONET_RETURN_IF_ERROR(impl->Allocate());
  } catch (const std::bad_alloc&) {
    return Error(absl::StatusCode::kResourceExhausted, "out of memory: max_logit_rows is {}",
                 checked.max_logit_rows);
  }
  return std::unique_ptr<Forward>(new Forward(std::move(impl)));
}

int32_t Forward::vocabulary() const { return impl_->config.vocabulary; }

double Forward::routing_weight_per_token() const {
  return static_cast<double>(impl_->config.Routers()) * impl_->config.routing_heads;
}

const StepLimits& Forward::limits() const { return impl_->limits; }

void Forward::set_observer(ForwardObserver* observer) { impl_->observer = observer; }

void Forward::SetMask(int32_t slot, const ExpertMask& mask) {
  const MaskShape shape{.routers = impl_->config.Routers(), .experts = impl_->config.experts};
  MONET_CHECK(slot >= 0 && slot < impl_->limits.mask_slots + impl_->limits.shadow_slots);
  MONET_CHECK(mask.shape() == shape);
  impl_->backend->CopyIn(impl_->bitmaps + slot * shape.Bytes(), mask.bitmap().data(),
                         shape.Bytes());
}

StepOutput Forward::Run(const StepBatch& batch) {
  Impl& m = *impl_;
  m.CheckBatch(batch);
  m.CopyBatch(batch);
  m.backend->Embed({.table = m.weights->embedding,
                    .ids = m.token_ids,
                    .tokens = m.rows.tokens,
                    .out = m.hidden});
  for (int32_t layer = 0; layer < m.config.layers; ++layer) {
    m.ObserveHidden(layer);
    m.Attend(layer);
    m.RunExperts(layer);
  }
  m.ObserveHidden(m.config.layers);
  m.Logits(batch);
  const size_t tokens = m.rows.tokens;
  m.EndUse(&m.applied);
  m.EndUse(&m.shadow);
  m.backend->Synchronize();
  const size_t logit_count = batch.logit_rows.size() * m.config.vocabulary;
  return {.logits = std::span<const float>(m.logits_host).first(logit_count),
          .removed_weight = std::span<const float>(m.applied.weight_host).first(tokens),
          .shadow_weight = std::span<const float>(m.shadow.weight_host).first(tokens),
          .routing = batch.routing_rows.empty() ? nullptr : &m.routing_host};
}

}  // namespace monet
