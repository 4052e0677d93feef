#include "server/http_listener.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <vector>

namespace monet::server {
namespace {

constexpr size_t kLingerBytes = 4 << 20;
constexpr std::chrono::milliseconds kLingerTime{1000};

using SteadyClock = std::chrono::steady_clock;

// One connection until its deadlines; reads end after so many bytes, whatever the client sends.
class BoundedStream final : public httplib::Stream {
 public:
  BoundedStream(socket_t socket, size_t bytes, std::chrono::milliseconds time)
      : socket_(socket), bytes_left_(bytes), time_(time), read_until_(SteadyClock::now() + time) {}

  bool is_readable() const override { return Wait(POLLIN, read_until_); }
  bool is_writable() const override { return Wait(POLLOUT, WriteUntil()); }

  ssize_t read(char* data, size_t size) override {
    size = std::min(size, bytes_left_);
    if (size == 0 || !is_readable()) return -1;
    const ssize_t count = recv(socket_, data, size, 0);
    if (count > 0) bytes_left_ -= static_cast<size_t>(count);
    return count;
  }
  ssize_t write(const char* data, size_t size) override {
    return is_writable() ? send(socket_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) : -1;
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    sockaddr_storage address = {};
    socklen_t size = sizeof(address);
    getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    Describe(address, size, &ip, &port);
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    sockaddr_storage address = {};
    socklen_t size = sizeof(address);
    getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    Describe(address, size, &ip, &port);
  }
  socket_t socket() const override { return socket_; }

 private:
  // The time to write starts with the first byte of the answer: a handler may take long.
  SteadyClock::time_point WriteUntil() const {
    if (write_until_ == SteadyClock::time_point()) write_until_ = SteadyClock::now() + time_;
    return write_until_;
  }
  bool Wait(short events, SteadyClock::time_point until) const {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - SteadyClock::now());
    pollfd entry = {socket_, events, 0};
    return left.count() > 0 && poll(&entry, 1, static_cast<int>(left.count())) == 1;
  }
  static void Describe(const sockaddr_storage& address, socklen_t size, std::string* ip,
                       int* port) {
    char host[NI_MAXHOST] = "";
    char service[NI_MAXSERV] = "";
    getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof(host), service,
                sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV);
    *ip = host;
    *port = std::atoi(service);
  }

  const socket_t socket_;
  size_t bytes_left_;
  const std::chrono::milliseconds time_;
  const SteadyClock::time_point read_until_;
  mutable SteadyClock::time_point write_until_;
};

// httplib's own pool takes connections without end. This one makes the accepting thread wait.
class BoundedPool final : public httplib::TaskQueue {
 public:
  BoundedPool(int32_t threads, size_t waiting) : waiting_(waiting) {
    for (int32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  }

  void enqueue(std::function<void()> task) override {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return tasks_.size() < waiting_; });
    tasks_.push_back(std::move(task));
    work_.notify_one();
  }
  void shutdown() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      room_.notify_one();
      lock.unlock();
      task();
      lock.lock();
    }
  }

  const size_t waiting_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable room_;
  std::list<std::function<void()>> tasks_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

class HttpListener::Impl final : public httplib::Server {
 public:
  explicit Impl(const Limits& limits) : limits_(limits) {}

 private:
  bool process_and_close_socket(socket_t socket) override {
    BoundedStream stream(socket, limits_.request_bytes, limits_.time);
    bool closed = false;
    const bool ok = process_request(stream, /*close_connection=*/true, closed, nullptr);
    Linger(socket);
    close(socket);
    return ok;
  }

  // Takes what the client still sends, within bounds: closed with bytes unread, the connection
  // would be reset and the answer lost.
  static void Linger(socket_t socket) {
    shutdown(socket, SHUT_WR);
    BoundedStream rest(socket, kLingerBytes, kLingerTime);
    char bytes[4096];
    while (rest.read(bytes, sizeof(bytes)) > 0) {
    }
  }

  const Limits limits_;
};

HttpListener::HttpListener(const Limits& limits) : impl_(std::make_unique<Impl>(limits)) {
  impl_->new_task_queue = [limits] { return new BoundedPool(limits.threads, limits.waiting); };
  impl_->set_payload_max_length(limits.request_bytes);
  // httplib's default shares the port with whoever else asks for it.
  impl_->set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
}

HttpListener::~HttpListener() { Stop(); }

httplib::Server& HttpListener::http() { return *impl_; }

absl::Status HttpListener::Start(const std::string& host, int32_t port) {
  if (port == 0) {
    port_ = impl_->bind_to_any_port(host);
  } else if (impl_->bind_to_port(host, port)) {
    port_ = port;
  }
  if (port_ <= 0) return InvalidArgument("cannot listen there; is the port in use?");
  thread_ = std::thread([this] { impl_->listen_after_bind(); });
  return absl::OkStatus();
}

void HttpListener::Stop() {
  if (!thread_.joinable()) return;
  // stop() before the loop runs would be forgotten.
  while (!impl_->is_running()) std::this_thread::yield();
  impl_->stop();
  thread_.join();
}

}  // namespace monet::server
