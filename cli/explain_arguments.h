// The options of monetctl explain, and the requests that they make.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/call_options.h"
#include "monet/v1/expert.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

struct ExplainArguments {
  explicit ExplainArguments(CLI::App* app);
  // One request for each text, in the order given; reads files and standard input. Errors:
  // INVALID_ARGUMENT naming the option.
  absl::StatusOr<std::vector<v1::ExplainRequest>> Read() const;
  // --out, if given.
  absl::StatusOr<std::optional<std::string>> Out() const;

  ServerArguments server;
  MaskArguments mask;
  CLI::Option *model, *request_id, *top, *min_weight, *out, *text_file, *token_ids, *text;
  bool json = false;

 private:
  absl::StatusOr<std::vector<v1::Prompt>> ReadPrompts() const;
};

}  // namespace monet::cli
