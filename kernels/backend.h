// The one seam between the runtime and a device: memory, and one call per operation.
//
// Everything here is plain data: pointers, counts and views. No threads' policy, no gRPC, no
// absl, no files, no exceptions. Every pointer in an args struct points to memory of the backend
// that receives it (`Backend::Alloc`), except where a comment says "host".
//
// Axes, used in every shape comment of the project:
//   T tokens (rows) in a step     D hidden size          V vocabulary      L layers
//   A attention heads             G key/value heads      C head size       F MoE width per block
//   H routing heads               E experts a side       M moe_dim (inner units of an expert)
//   R routers (router groups)     B key/value blocks     P tokens a block  S sequences in a step
//
// Promise of every operation: row t of its result depends on row t of its operands, on that row's
// own sequence and on nothing else, to the bit. T, the order of rows and the number of threads are
// not part of the arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

namespace monet::kernels {

enum class DType : uint8_t { kF32, kBF16 };

constexpr size_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// A weight matrix in the published [out, in] layout, row-major, rows contiguous.
struct Matrix {
  const void* data = nullptr;  // (rows, cols)
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
};

// out[t] = table[ids[t]].
struct EmbedArgs {
  Matrix table;                  // (V, D)
  const int32_t* ids = nullptr;  // (T), each in [0, V)
  int32_t tokens = 0;            // T
  float* out = nullptr;          // (T, D)
};

// out[t] = x[rows[t]] * weight / sqrt(mean(x²) + eps).
struct RmsNormArgs {
  const float* x = nullptr;       // (any, D)
  const int32_t* rows = nullptr;  // (T) rows of x to normalise; null: 0..T-1
  const float* weight = nullptr;  // (D)
  float eps = 0;
  int32_t tokens = 0;    // T
  int32_t hidden = 0;    // D
  float* out = nullptr;  // (T, D)
};

// "K dense" product: out[t, n] = (residual[t, n]) + Σ_k x[t, k] · weight[n, k].
struct MatMulArgs {
  const float* x = nullptr;         // (T, K)
  Matrix weight;                    // (N, K)
  const float* residual = nullptr;  // (T, N) or null; may be the same memory as out
  int32_t tokens = 0;               // T
  float* out = nullptr;             // (T, N)
};

// The paged cache of keys and values. A token at position p of a sequence lives in slot p % P of
// block block_table[p / P]. Slots at or beyond a row's position + 1 are never read.
struct KvCache {
  float* keys = nullptr;    // (L, B, G, P, C)
  float* values = nullptr;  // (L, B, G, P, C)
  int32_t blocks = 0;       // B
  int32_t block_size = 0;   // P
  int32_t kv_heads = 0;     // G
  int32_t head_dim = 0;     // C, even
};

// Where each row of the step belongs.
struct RowMap {
  int32_t tokens = 0;                    // T
  const int32_t* position = nullptr;     // (T) position in its sequence, 0-based
  const int32_t* sequence = nullptr;     // (T) row of block_table
  const int32_t* block_table = nullptr;  // (S, table_stride) block ids
  int32_t table_stride = 0;              // blocks a sequence can have
};

// Rotary embedding with the half-split rotation on q (in place) and k, then k and v go into the
// cache. cos/sin hold position p, frequency f at [p * C/2 + f], computed in double.
struct RopeStoreArgs {
  RowMap rows;
  int32_t layer = 0;
  int32_t heads = 0;           // A
  const float* cos = nullptr;  // (max positions, C/2)
  const float* sin = nullptr;  // (max positions, C/2)
  float* q = nullptr;          // (T, A, C) rotated in place
  const float* k = nullptr;    // (T, G, C)
  const float* v = nullptr;    // (T, G, C)
  KvCache cache;
};

// Causal attention of each row over the cached slots 0..position of its sequence; scale 1/sqrt(C);
// head a reads key/value head a / (A / G). Softmax in two passes.
struct AttentionArgs {
  RowMap rows;
  int32_t layer = 0;
  int32_t heads = 0;         // A
  const float* q = nullptr;  // (T, A, C)
  KvCache cache;
  float* out = nullptr;  // (T, A, C)
};

// What one router decided for T tokens; serves the layers of its group. Storage belongs to the
// caller; lists have fixed strides, only the first `count` entries are defined.
struct Routing {
  int32_t* count = nullptr;         // (T, 2, H) kept indices of a side and head, 1..E
  uint16_t* index = nullptr;        // (T, 2, H, E) kept indices, ascending
  float* gate = nullptr;            // (T, 2, H, E) their softmax: g1 (side 0) and g2 (side 1)
  int32_t* active_count = nullptr;  // (T, 2)
  uint16_t* active = nullptr;       // (T, 2, E) union of the heads' indices, ascending
};

// Monet paper section 3.2 and the original router: z = w x; index i of a head is kept iff
// z_i >= min(max z, threshold); gates are the softmax over the kept raw z.
struct RouteArgs {
  const float* x = nullptr;           // (T, D)
  Matrix w1, w2;                      // (H·E, D) each
  const float* threshold1 = nullptr;  // (H) folded BatchNorm threshold of side 1
  const float* threshold2 = nullptr;  // (H) of side 2
  int32_t tokens = 0;                 // T
  int32_t routing_heads = 0;          // H
  int32_t experts = 0;                // E, at most 65535
  Routing out;
};

// The masks of a step, an operand of the expert op. Bit k of byte b in a bitmap is expert
// 8b + k = i·E + j of that router group; 1 = removed. A row without a mask has slot -1.
struct MaskTable {
  const uint8_t* bitmaps = nullptr;  // (slots, R, bytes)
  int32_t routers = 0;               // R
  int32_t bytes = 0;                 // ⌈E²/8⌉, bytes of one router's bitmap
  const int32_t* slot = nullptr;     // (T) row's slot or -1
};

// removed[t] += Σ_{h,i,j removed} g1_hi · g2_hj; the total weight of a row is H (up to rounding).
struct RemovedWeightArgs {
  Routing routing;
  MaskTable masks;
  int32_t router = 0;
  int32_t tokens = 0;
  int32_t routing_heads = 0;
  int32_t experts = 0;
  float* removed = nullptr;  // (T)
};

enum class Decompose : uint8_t { kVertical, kHorizontal };

// First half of an expert's inner units: unit q of expert i is row i·units + q.
struct ExpertUp {
  Matrix weight;                // (E·units, D)
  const float* bias = nullptr;  // (E·units)
};

// Second half, packed so that one expert is one contiguous stream: block e holds M rows of N
// output weights, one row an inner unit, then one row with the bias.
struct ExpertDown {
  const void* blocks = nullptr;  // (E, M + 1, N)
  DType dtype = DType::kF32;
};

// One layer's experts.
//   vertical:   up1 = u1, up2 = u2 with M/2 units; down1 block i = [v11_i | v12_i | b1_i],
//               down2 block j = [v21_j | v22_j | b2_j], N = D/2.
//   horizontal: up1 = u with M units; down2 block j = [v_j | b_j], N = D; up2, down1 unused.
struct ExpertWeights {
  Decompose decompose = Decompose::kVertical;
  ExpertUp up1, up2;
  ExpertDown down1, down2;
};

// The expert layer with masks, in the bounded form: with W_ij = keep_ij Σ_h g1_hi g2_hj,
//   vertical:   out = [ v11·(r⊙a1) + v12·(W a2) + b1ᵀ r | v21·(Wᵀ a1) + v22·(c⊙a2) + b2ᵀ c ]
//   horizontal: out = v·(Wᵀ a) + bᵀ c
// where r_i = Σ_j W_ij, c_j = Σ_i W_ij, a = relu(u x + bias)². W is never stored: per head, in
// ascending h and j, t_hi = Σ_j keep_ij g2_hj a2_j and y_i = Σ_h g1_hi t_hi; t_h is shared by all
// rows i that no mask bit touches. "K sparse" product: one accumulator an output, blocks ascending.
struct ExpertArgs {
  const float* x = nullptr;  // (T, D) post-attention norm
  Routing routing;
  MaskTable masks;
  int32_t router = 0;
  int32_t tokens = 0;         // T
  int32_t hidden = 0;         // D
  int32_t routing_heads = 0;  // H
  int32_t experts = 0;        // E
  int32_t moe_dim = 0;        // M
  ExpertWeights weights;
  const float* residual = nullptr;  // (T, D); may be the same memory as out
  float* out = nullptr;             // (T, D) residual + expert layer
};

// Largest operands that the backend will see; it sizes its workspace from them once.
struct Limits {
  int32_t max_tokens = 0;     // T
  int32_t max_context = 0;    // positions of one sequence
  int32_t hidden = 0;         // D
  int32_t heads = 0;          // A
  int32_t routing_heads = 0;  // H
  int32_t experts = 0;        // E
  int32_t moe_dim = 0;        // M
};

// One device. Calls are in order on one stream; not thread-safe: one caller at a time.
// Operands must satisfy the shapes above; they are checked by the runtime, not here.
class Backend {
 public:
  virtual ~Backend() = default;

  // "reference", "cpu" ...
  virtual const char* Name() const = 0;
  // What may change bits beside the weights' dtype: arithmetic form and instruction set class.
  virtual const char* NumericsId() const = 0;
  // For the log: instruction set and threads, e.g. "avx512, 2 threads".
  virtual const char* Description() const = 0;

  // Allocates the workspace. Called once, before any operation. False when out of memory.
  virtual bool Prepare(const Limits& limits) = 0;

  // 64-byte aligned, uninitialised; null when out of memory.
  virtual void* Alloc(size_t bytes) = 0;
  virtual void Free(void* ptr) = 0;
  virtual void CopyIn(void* device, const void* host, size_t bytes) = 0;
  virtual void CopyOut(void* host, const void* device, size_t bytes) = 0;
  // Waits until every earlier call has finished.
  virtual void Synchronize() = 0;

  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void RmsNorm(const RmsNormArgs& args) = 0;
  virtual void MatMul(const MatMulArgs& args) = 0;
  virtual void RopeStore(const RopeStoreArgs& args) = 0;
  virtual void Attention(const AttentionArgs& args) = 0;
  virtual void Route(const RouteArgs& args) = 0;
  virtual void RemovedWeight(const RemovedWeightArgs& args) = 0;
  virtual void Experts(const ExpertArgs& args) = 0;
};

}  // namespace monet::kernels
