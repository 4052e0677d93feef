// A real monet-server process on free ports, for end-to-end tests.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace monet::e2e {

struct Exit {
  int code = -1;  // exit code; 128 + signal when a signal ended it
  std::string out;
  std::string err;
};

class ServerProcess {
 public:
  // Starts the binary with these arguments. Kills it in the destructor if it still runs.
  explicit ServerProcess(const std::vector<std::string>& args);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // The demo model with its policies on free ports, and these arguments besides.
  static std::vector<std::string> DemoArgs(const std::vector<std::string>& more = {});

  // False when it ended or did not say "ready" in time.
  bool WaitReady(std::chrono::seconds limit = std::chrono::seconds(30));
  // After WaitReady: host:port as printed.
  std::string grpc_address() const { return Printed("grpc"); }
  std::string metrics_address() const;
  // Empty unless the arguments ask for them.
  std::string health_address() const { return Printed("health"); }
  std::string admin_address() const;

  void Signal(int signal) const;
  // Threads of the process now.
  int Threads() const;
  // Its memory that is in RAM.
  int64_t ResidentBytes() const;
  // Waits for the end; kills it after the limit, which gives code 137.
  Exit Wait(std::chrono::seconds limit = std::chrono::seconds(30));

 private:
  std::string Printed(const std::string& name) const;
  bool Reap(bool block);

  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
  std::string directory_;  // of the files that hold stdout and stderr
};

// The server's exit when it is expected to end by itself.
Exit RunServer(const std::vector<std::string>& args);

// Samples of a /metrics page by their text up to the value, e.g. `monet_x{model_name="demo"}`.
std::map<std::string, double> Scrape(const std::string& address);
// The sum of all samples of one metric.
double MetricSum(const std::string& address, const std::string& name);

}  // namespace monet::e2e
