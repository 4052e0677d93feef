// The fingerprint of a model: which function its checkpoint computes, whatever the files look like.
// It does not depend on sharding, on the order of tensors in a file, on metadata, on a re-saved
// config.json or on tensors that the model ignores.
//
// Definition (another implementation must give the same bytes). Let u32(n) be n as four
// little-endian bytes and str(s) be u32(length in bytes of s) followed by the bytes of s. Then
//
//   fingerprint = SHA-256 of the concatenation of
//     the 14 bytes "monet-model-1\0"
//     u32(number of tensors)
//     for every tensor that enters the maths, in ascending order of the bytes of its name:
//       str(name)                      e.g. "model.layers.0.moe.u1.weight"
//       str(dtype)                     as safetensors spells it: "F32" or "BF16"
//       u32(number of dimensions), then u32(dimension) for each
//       the 32 bytes of SHA-256(the tensor's bytes as stored, row-major, little-endian)
//     str(CanonicalConfig(config))
//
// Not counted as entering the maths: num_batches_tracked, rotary_emb.inv_freq, and lm_head.weight
// when the embedding is tied. CanonicalConfig is "key=value\n" for each of the following keys, in
// this (sorted) order; integers in decimal, floats as printf("%.17g") of the double, booleans as
// true or false; num_key_value_heads is written also when config.json leaves it to its default:
//
//   hidden_act, hidden_size, moe_decompose, moe_dim, moe_experts, moe_groups, moe_heads, moe_topk,
//   num_attention_heads, num_hidden_layers, num_key_value_heads, rms_norm_eps, rope_theta,
//   tie_word_embeddings, vocab_size
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/digest.h"
#include "runtime/base/status.h"
#include "runtime/model/checkpoint.h"
#include "runtime/model/config.h"

namespace monet {

// What the fingerprint knows of one tensor.
struct TensorDigest {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  Digest bytes;
};

TensorDigest DescribeTensor(const CheckpointTensor& tensor, const Digest& bytes);

// The definition above; sorts `tensors` itself.
Digest ModelFingerprint(const ModelConfig& config, std::vector<TensorDigest> tensors);

// Reads and hashes every tensor of a checkpoint, `threads` at a time. The result does not depend on
// the number of threads. Errors: as Checkpoint::Read.
absl::StatusOr<Digest> FingerprintCheckpoint(const Checkpoint& checkpoint, int32_t threads);

}  // namespace monet
