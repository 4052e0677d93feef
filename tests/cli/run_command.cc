#include "tests/cli/run_command.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <utility>

extern char** environ;

namespace monet::cli {
namespace {

using Clock = std::chrono::steady_clock;

// Two ends of a pipe or of a pseudo-terminal; closed on exec.
struct Channel {
  int ours = -1;
  int theirs = -1;
};

Channel OpenChannel(bool is_terminal, bool we_read) {
  std::array<int, 2> ends = {-1, -1};
  if (is_terminal) {
    EXPECT_EQ(openpty(&ends[0], &ends[1], nullptr, nullptr, nullptr), 0);
  } else {
    EXPECT_EQ(pipe(ends.data()), 0);
    if (!we_read) std::swap(ends[0], ends[1]);
  }
  for (int fd : ends) fcntl(fd, F_SETFD, FD_CLOEXEC);
  return {ends[0], ends[1]};
}

void Close(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

pid_t Spawn(const std::vector<std::string>& arguments, const CommandOptions& options, int input,
            int output, int errors) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  std::vector<std::string> words = {MONETCTL_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<std::string> settings = options.environment;
  std::vector<char*> environment;
  for (std::string& setting : settings) environment.push_back(setting.data());
  for (char** setting = environ; *setting != nullptr; ++setting) environment.push_back(*setting);
  environment.push_back(nullptr);
  pid_t pid = -1;
  EXPECT_EQ(posix_spawn(&pid, MONETCTL_BINARY, &actions, nullptr, argv.data(), environment.data()),
            0);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

// Appends what can be read; closes the descriptor at the end of its data.
void ReadSome(int* fd, std::string* text) {
  std::array<char, 65536> buffer;
  const ssize_t got = read(*fd, buffer.data(), buffer.size());
  if (got > 0) {
    text->append(buffer.data(), static_cast<size_t>(got));
  } else {
    Close(fd);  // a pseudo-terminal says EIO when its other end is closed
  }
}

void Collect(pid_t pid, const CommandOptions& options, int* output, int* errors,
             CommandResult* result) {
  const Clock::time_point give_up = Clock::now() + std::chrono::seconds(60);
  bool noticed = !options.notice;
  while (*output >= 0 || *errors >= 0) {
    std::array<pollfd, 2> polled = {pollfd{*output, POLLIN, 0}, pollfd{*errors, POLLIN, 0}};
    if (Clock::now() > give_up || poll(polled.data(), polled.size(), 1000) < 0) {
      ADD_FAILURE() << "monetctl does not end";
      kill(pid, SIGKILL);
      return;
    }
    if (polled[0].revents != 0) ReadSome(output, &result->output);
    if (polled[1].revents != 0) ReadSome(errors, &result->errors);
    if (!noticed && result->output.size() >= options.notice_after) {
      noticed = true;
      options.notice(pid);
    }
    if (result->output.size() >= options.close_output_after) Close(output);
  }
}

}  // namespace

CommandResult RunMonetctl(const std::vector<std::string>& arguments,
                          const CommandOptions& options) {
  Channel input = OpenChannel(false, false);
  Channel output = OpenChannel(options.output_is_terminal, true);
  Channel errors = OpenChannel(options.errors_are_terminal, true);
  const pid_t pid = Spawn(arguments, options, input.theirs, output.theirs, errors.theirs);
  for (int* fd : {&input.theirs, &output.theirs, &errors.theirs}) Close(fd);
  CommandResult result;
  if (pid < 0) return result;
  // Inputs of these tests fit a pipe's buffer.
  if (!options.input.empty()) {
    EXPECT_EQ(write(input.ours, options.input.data(), options.input.size()),
              static_cast<ssize_t>(options.input.size()));
  }
  Close(&input.ours);
  Collect(pid, options, &output.ours, &errors.ours, &result);
  Close(&output.ours);
  Close(&errors.ours);
  int status = 0;
  waitpid(pid, &status, 0);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string WriteTemporaryFile(const std::string& name, const std::string& content) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string path = testing::TempDir() + "monetctl-" + std::to_string(getpid()) + "-" +
                           test->test_suite_name() + "-" + test->name() + "-" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

}  // namespace monet::cli
