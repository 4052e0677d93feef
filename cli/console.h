// Standard output and standard error of the command: results on the one, progress and errors on the
// other. Not thread-safe.
#pragma once

#include <string_view>

#include "runtime/base/status.h"

namespace monet::cli {

class Console {
 public:
  Console();
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  bool stdout_is_terminal() const { return stdout_is_terminal_; }

  // Writes all of `text` to standard output at once, unbuffered. Errors: BrokenPipe(), or INTERNAL
  // with the system's reason.
  absl::Status Write(std::string_view text);

  // Replaces the progress line on standard error. Does nothing unless that is a terminal.
  void Progress(std::string_view text);
  void ClearProgress();

  // One line on standard error, after clearing the progress line. Nothing when `line` is empty.
  void PrintError(std::string_view line);

 private:
  bool stdout_is_terminal_;
  bool stderr_is_terminal_;
  bool progress_shown_ = false;
};

}  // namespace monet::cli
