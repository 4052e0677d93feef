// How `monetctl score` cuts a long text, and what it adds up.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "monet/v1/generation.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

// Consecutive pieces of `ids` with at most context − 1 ids each, so that every piece fits the
// context behind its own <s>. REQUIRES: context >= 2.
std::vector<std::span<const int32_t>> ScoreWindows(std::span<const int32_t> ids, int32_t context);

// Adds up the answers to the windows of one text, in order.
class ScoreTotal {
 public:
  // `ids` are the window's predicted tokens. Errors (exit code 1): an answer for other tokens, a
  // log-probability that is not a finite number, another model or mask than the windows before.
  absl::Status Add(std::span<const int32_t> ids, const v1::ScoreResponse& answer);

  int64_t tokens() const { return tokens_; }
  int32_t windows() const { return windows_; }
  // −Σ log p / tokens in nats, summed in double over the tokens in order. REQUIRES: tokens() > 0.
  double mean_nll() const { return negative_sum_ / static_cast<double>(tokens_); }
  // Of every token, in order.
  const std::vector<float>& logprobs() const { return logprobs_; }
  // A list for each answer; empty when none has routing.
  const std::vector<google::protobuf::RepeatedPtrField<v1::TokenActivation>>& routing() const {
    return routing_;
  }
  // Of the first answer; the others agree in model and mask.
  const v1::ResponseHeader& header() const { return header_; }
  // Sum of the answers' usage.
  const v1::Usage& usage() const { return usage_; }
  // Mean over all rows, each window's <s> among them.
  double removed_weight_share() const;

 private:
  v1::ResponseHeader header_;
  v1::Usage usage_;
  std::vector<float> logprobs_;
  std::vector<google::protobuf::RepeatedPtrField<v1::TokenActivation>> routing_;
  int64_t tokens_ = 0;
  int32_t windows_ = 0;
  double negative_sum_ = 0;
  double removed_sum_ = 0;  // Σ share · rows of the window
};

}  // namespace monet::cli
