#include "tests/e2e/server_process.h"

#include <fcntl.h>
#include <httplib.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace monet::e2e {
namespace {

constexpr std::chrono::milliseconds kPoll{5};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string MakeDirectory() {
  std::string path = (std::filesystem::temp_directory_path() / "monet-e2e-XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  return path;
}

}  // namespace

ServerProcess::ServerProcess(const std::vector<std::string>& args) : directory_(MakeDirectory()) {
  std::vector<char*> argv = {const_cast<char*>(MONET_SERVER_BINARY)};
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  const std::string out = directory_ + "/out";
  const std::string err = directory_ + "/err";
  pid_ = fork();
  if (pid_ == 0) {
    // Only async-signal-safe calls between fork and exec.
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    execv(argv[0], argv.data());
    _exit(126);
  }
  if (pid_ < 0) throw std::runtime_error("fork failed");
}

ServerProcess::~ServerProcess() {
  if (!ended_) {
    kill(pid_, SIGKILL);
    Reap(true);
  }
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
}

std::vector<std::string> ServerProcess::DemoArgs(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"--model",    MONET_SOURCE_DIR "/models/demo",
                                   "--policies", MONET_SOURCE_DIR "/policies",
                                   "--listen",   "127.0.0.1:0"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

bool ServerProcess::Reap(bool block) {
  if (ended_) return true;
  ended_ = waitpid(pid_, &status_, block ? 0 : WNOHANG) == pid_;
  return ended_;
}

bool ServerProcess::WaitReady(std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < deadline) {
    if (ReadFile(directory_ + "/out").find("\nready\n") != std::string::npos) return true;
    if (Reap(false)) return false;
    std::this_thread::sleep_for(kPoll);
  }
  return false;
}

// The value of a line "  name   value" of what it printed.
std::string ServerProcess::Printed(const std::string& name) const {
  std::istringstream lines(ReadFile(directory_ + "/out"));
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string first;
    std::string value;
    if (words >> first >> value && first == name) return value;
  }
  return "";
}

std::string ServerProcess::metrics_address() const {
  const std::string url = Printed("metrics");  // http://HOST:PORT/metrics
  const size_t start = url.find("//") + 2;
  return url.substr(start, url.rfind('/') - start);
}

std::string ServerProcess::admin_address() const {
  const std::string url = Printed("admin");  // http://HOST:PORT
  return url.substr(url.find("//") + 2);
}

void ServerProcess::Signal(int signal) const { kill(pid_, signal); }

int ServerProcess::Threads() const {
  const std::filesystem::path tasks = "/proc/" + std::to_string(pid_) + "/task";
  return static_cast<int>(std::distance(std::filesystem::directory_iterator(tasks), {}));
}

int64_t ServerProcess::ResidentBytes() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

Exit ServerProcess::Wait(std::chrono::seconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!Reap(false)) {
    if (std::chrono::steady_clock::now() > deadline) {
      kill(pid_, SIGKILL);
      Reap(true);
      break;
    }
    std::this_thread::sleep_for(kPoll);
  }
  Exit exit;
  exit.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  exit.out = ReadFile(directory_ + "/out");
  exit.err = ReadFile(directory_ + "/err");
  return exit;
}

Exit RunServer(const std::vector<std::string>& args) { return ServerProcess(args).Wait(); }

std::map<std::string, double> Scrape(const std::string& address) {
  httplib::Client client("http://" + address);
  std::map<std::string, double> samples;
  const auto response = client.Get("/metrics");
  if (!response || response->status != 200) return samples;
  std::istringstream lines(response->body);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t space = line.rfind(' ');
    if (line.empty() || line[0] == '#' || space == std::string::npos) continue;
    samples[line.substr(0, space)] = std::strtod(line.c_str() + space + 1, nullptr);
  }
  return samples;
}

double MetricSum(const std::string& address, const std::string& name) {
  double sum = 0;
  for (const auto& [sample, value] : Scrape(address)) {
    if (sample == name || sample.starts_with(name + "{")) sum += value;
  }
  return sum;
}

}  // namespace monet::e2e
