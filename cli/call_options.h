// Options that subcommands share: which experts to remove; which server is in server_arguments.h.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/server_arguments.h"
#include "monet/v1/mask.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

// --policy and --experts.
class MaskArguments {
 public:
  explicit MaskArguments(CLI::App* app);
  // Reads the files too. Errors name the file.
  absl::StatusOr<v1::MaskSpec> Read() const;

 private:
  CLI::Option* policies_;
  CLI::Option* experts_;
};

// Every policy asked for must be named in the server's answer. Errors: exit code 1.
absl::Status CheckApplied(const v1::MaskSpec& asked, const v1::AppliedMask& applied);

}  // namespace monet::cli
