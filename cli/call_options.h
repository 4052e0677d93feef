// Options that subcommands share: which server, and which experts to remove.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/connection.h"
#include "monet/v1/mask.pb.h"
#include "runtime/base/status.h"

namespace monet::cli {

inline constexpr char kDefaultServer[] = "127.0.0.1:50051";

// --server and --timeout.
class ServerArguments {
 public:
  explicit ServerArguments(CLI::App* app);
  absl::StatusOr<ServerOptions> Read() const;

 private:
  CLI::Option* server_;
  CLI::Option* timeout_;
};

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
