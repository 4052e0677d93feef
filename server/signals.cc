#include "server/signals.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

namespace monet::server {
namespace {

sigset_t ShutdownSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

void BlockShutdownSignals() {
  const sigset_t set = ShutdownSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void WatchShutdownSignals(std::function<void(int signal)> on_first) {
  std::thread([on_first = std::move(on_first)] {
    const sigset_t set = ShutdownSignals();
    int signal = 0;
    while (sigwait(&set, &signal) != 0) {
    }
    on_first(signal);
    while (sigwait(&set, &signal) != 0) {
    }
    std::fputs("monet-server: second signal, ending at once\n", stderr);
    std::_Exit(128 + signal);
  }).detach();
}

}  // namespace monet::server
