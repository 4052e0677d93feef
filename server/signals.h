// SIGTERM and SIGINT as something that a thread waits for; no work happens in a signal handler.
#pragma once

#include <functional>

namespace monet::server {

// Blocks both signals in this thread and those it will start, and ignores SIGPIPE. Before any
// other thread exists.
void BlockShutdownSignals();

// Starts a thread that waits for the signals for the rest of the process. The first calls
// `on_first` on that thread; the second ends the process at once with 128 + signal.
void WatchShutdownSignals(std::function<void(int signal)> on_first);

}  // namespace monet::server
