// The routing of whole documents, asked of a server's Explain window by window.
#pragma once

#include <cstdint>
#include <string>

#include "cli/connection.h"
#include "runtime/base/status.h"
#include "runtime/policy/routing_sums.h"

namespace monet::cli {

// What the answers must agree in.
struct ServedModel {
  std::string fingerprint;
  std::string system;  // system_fingerprint
  MaskShape shape;
  int32_t context = 0;           // tokens of one call
  int64_t max_prompt_bytes = 0;  // 0: not told
  int32_t bos = 0;
};

// Errors: those of the calls, BadAnswer.
absl::StatusOr<ServedModel> AskServedModel(Connection* connection);

// Adds the weights of all tokens of a text, without <s>; a text longer than the context is cut into
// windows of context − 1 tokens, each behind its own <s>. Errors: those of the calls; exit code 1
// when another model answers, when policies of the caller's tenant are in force (the statistics
// would be of a model without their experts), and when a token has more active experts than Explain
// tells.
absl::Status AddDocument(const ServedModel& model, const std::string& text, Connection* connection,
                         DocumentRouting* routing);

}  // namespace monet::cli
