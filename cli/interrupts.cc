#include "cli/interrupts.h"

#include <pthread.h>
#include <unistd.h>

#include <utility>

namespace monet::cli {
namespace {

// Wakes the waiting thread so that it can end.
constexpr int kWakeSignal = SIGUSR1;

bool IsIgnored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

Interrupts::Interrupts() {
  sigemptyset(&signals_);
  sigaddset(&signals_, kWakeSignal);
  for (int signal : {SIGINT, SIGTERM}) {
    if (!IsIgnored(signal)) sigaddset(&signals_, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  thread_ = std::thread([this] { Wait(); });
}

Interrupts::~Interrupts() {
  stopping_ = true;
  pthread_kill(thread_.native_handle(), kWakeSignal);
  thread_.join();
}

void Interrupts::Wait() {
  while (true) {
    int signal = 0;
    if (sigwait(&signals_, &signal) != 0) continue;
    if (signal == kWakeSignal) {
      if (stopping_) return;
      continue;
    }
    Handle(signal);
  }
}

void Interrupts::Handle(int signal) {
  std::lock_guard lock(mutex_);
  const bool first = signal_.exchange(signal) == 0;
  if (!first || !on_signal_) _exit(128 + signal);
  on_signal_();
}

Interrupts::Scope::Scope(Interrupts* interrupts, std::function<void()> on_signal)
    : interrupts_(interrupts) {
  std::lock_guard lock(interrupts_->mutex_);
  interrupts_->on_signal_ = std::move(on_signal);
  if (interrupts_->signal() != 0) interrupts_->on_signal_();
}

Interrupts::Scope::~Scope() {
  std::lock_guard lock(interrupts_->mutex_);
  interrupts_->on_signal_ = nullptr;
}

}  // namespace monet::cli
