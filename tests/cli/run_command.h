// Runs bin/monetctl as a user would, as a process of its own, and takes what it prints.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace monet::cli {

struct CommandResult {
  int exit_code = -1;  // 128 + n when signal n killed the process
  std::string output;  // standard output
  std::string errors;  // standard error
};

struct CommandOptions {
  std::string input;                     // standard input
  std::vector<std::string> environment;  // beside that of the test, e.g. "MONET_SERVER=…"
  bool output_is_terminal = false;       // standard output is a pseudo-terminal
  bool errors_are_terminal = false;      // standard error is one
  size_t close_output_after = SIZE_MAX;  // stop reading standard output after so many bytes
  // Called once with the process id, when `output` has at least `notice_after` bytes.
  std::function<void(pid_t)> notice;
  size_t notice_after = 1;
};

// Fails the running test when the process cannot be started, or has not ended within 60 s.
CommandResult RunMonetctl(const std::vector<std::string>& arguments,
                          const CommandOptions& options = {});

// A file in the test's own temporary folder, with this content.
std::string WriteTemporaryFile(const std::string& name, const std::string& content);

}  // namespace monet::cli
