#include "cli/console.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "cli/exit_status.h"
#include "runtime/base/write_all.h"

namespace monet::cli {

Console::Console()
    : stdout_is_terminal_(isatty(STDOUT_FILENO) == 1),
      stderr_is_terminal_(isatty(STDERR_FILENO) == 1) {
  // A reader that goes away is an error of write, not a death by signal in the middle of a call.
  std::signal(SIGPIPE, SIG_IGN);
}

Console::~Console() { ClearProgress(); }

absl::Status Console::Write(std::string_view text) {
  if (stdout_is_terminal_) ClearProgress();
  const int error = WriteAll(STDOUT_FILENO, text);
  if (error == 0) return absl::OkStatus();
  if (error == EPIPE) return BrokenPipe();
  return Error(absl::StatusCode::kInternal, "cannot write to standard output: {}",
               std::strerror(error));
}

void Console::Progress(std::string_view text) {
  if (!stderr_is_terminal_) return;
  WriteAll(STDERR_FILENO, fmt::format("\r\033[K{}", text));
  progress_shown_ = true;
}

void Console::ClearProgress() {
  if (!progress_shown_) return;
  WriteAll(STDERR_FILENO, "\r\033[K");
  progress_shown_ = false;
}

void Console::PrintError(std::string_view line) {
  ClearProgress();
  if (!line.empty()) WriteAll(STDERR_FILENO, fmt::format("{}\n", line));
}

}  // namespace monet::cli
