// The subcommands of monetctl, one file each. AddX declares the subcommand's options on `root` and
// returns what runs it once the command line has been parsed.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "cli/console.h"
#include "cli/interrupts.h"
#include "runtime/base/status.h"

namespace monet::cli {

// What a subcommand runs in. Not owned.
struct Session {
  Console* console;
  Interrupts* interrupts;
};

struct Command {
  CLI::App* app = nullptr;  // owned by the root
  // Called at most once. Statuses as in exit_status.h.
  std::function<absl::Status(const Session&)> run;
};

Command AddGenerate(CLI::App* root);
Command AddScore(CLI::App* root);
Command AddPolicies(CLI::App* root);
Command AddPolicy(CLI::App* root);
Command AddModel(CLI::App* root);
Command AddHealth(CLI::App* root);
Command AddTokenize(CLI::App* root);
Command AddDetokenize(CLI::App* root);
Command AddExplain(CLI::App* root);
Command AddForward(CLI::App* root);
Command AddKey(CLI::App* root);
Command AddTenants(CLI::App* root);
Command AddAdmin(CLI::App* root);
Command AddPlan(CLI::App* root);

// The whole program: parses, runs, prints errors, returns the exit code.
int Run(int argc, char** argv);

}  // namespace monet::cli
