#include "cli/windows.h"

#include <algorithm>
#include <cmath>

#include "cli/exit_status.h"

namespace monet::cli {

std::vector<std::span<const int32_t>> ScoreWindows(std::span<const int32_t> ids, int32_t context) {
  const size_t most = static_cast<size_t>(context) - 1;
  std::vector<std::span<const int32_t>> windows;
  for (size_t first = 0; first < ids.size(); first += most) {
    windows.push_back(ids.subspan(first, std::min(most, ids.size() - first)));
  }
  return windows;
}

absl::Status ScoreTotal::Add(std::span<const int32_t> ids, const v1::ScoreResponse& answer) {
  if (!std::equal(ids.begin(), ids.end(), answer.token_ids().begin(), answer.token_ids().end())) {
    return BadAnswer("it scored other tokens than those sent");
  }
  if (answer.logprobs_size() != answer.token_ids_size()) {
    return BadAnswer("{} log-probabilities for {} tokens", answer.logprobs_size(),
                     answer.token_ids_size());
  }
  if (windows_ == 0) {
    header_ = answer.header();
  } else if (answer.header().mask().digest() != header_.mask().digest() ||
             answer.header().system_fingerprint() != header_.system_fingerprint() ||
             answer.header().model_fingerprint() != header_.model_fingerprint()) {
    return MarkCallFailed(
        Error(absl::StatusCode::kAborted,
              "model or policies changed on the server during the run; try again"));
  }
  for (float logprob : answer.logprobs()) {
    if (!std::isfinite(logprob)) return BadAnswer("a log-probability is not a finite number");
    negative_sum_ -= static_cast<double>(logprob);
    logprobs_.push_back(logprob);
  }
  if (!answer.routing().empty()) routing_.push_back(answer.routing());
  tokens_ += static_cast<int64_t>(ids.size());
  removed_sum_ += answer.removed_weight_share() * static_cast<double>(ids.size() + 1);
  ++windows_;
  usage_.set_prompt_tokens(usage_.prompt_tokens() + answer.usage().prompt_tokens());
  usage_.set_completion_tokens(usage_.completion_tokens() + answer.usage().completion_tokens());
  usage_.set_cached_tokens(usage_.cached_tokens() + answer.usage().cached_tokens());
  return absl::OkStatus();
}

double ScoreTotal::removed_weight_share() const {
  return removed_sum_ / static_cast<double>(tokens_ + windows_);
}

}  // namespace monet::cli
