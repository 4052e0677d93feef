#include "server/health.h"

#include <chrono>
#include <optional>
#include <utility>

#include "runtime/limits.h"

namespace monet::server {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthTable::HealthTable(const std::vector<std::string>& services) {
  statuses_[""] = HealthCheckResponse::NOT_SERVING;
  for (const std::string& service : services) {
    statuses_[service] = HealthCheckResponse::NOT_SERVING;
  }
}

void HealthTable::SetAll(bool serving) {
  std::lock_guard lock(mutex_);
  for (auto& [service, status] : statuses_) {
    status = serving ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  }
}

void HealthTable::SetLiveness(std::function<bool()> alive) {
  std::lock_guard lock(mutex_);
  alive_ = std::move(alive);
}

HealthTable::Status HealthTable::Get(const std::string& service) const {
  std::lock_guard lock(mutex_);
  if (service == kLivenessService) {
    return !alive_ || alive_() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  }
  const auto found = statuses_.find(service);
  return found == statuses_.end() ? HealthCheckResponse::SERVICE_UNKNOWN : found->second;
}

// One call of either method, from the request for it to its last completion.
struct HealthService::Call {
  virtual ~Call() = default;
  // Under the service's mutex. False when the call is over and may be removed.
  virtual bool OnEvent(HealthService* service, Tag::Event event, bool ok) = 0;

  Tag* TagFor(Tag::Event event) {
    Tag& tag = tags[static_cast<size_t>(event)];
    tag = {this, event};
    return &tag;
  }

  grpc::ServerContext context;
  HealthCheckRequest request;
  Tag tags[4];
};

struct HealthService::Check final : Call {
  bool OnEvent(HealthService* service, Tag::Event event, bool ok) override {
    if (event != Tag::Event::kRequest || !ok) return false;
    service->AcceptCheck();
    const HealthTable::Status status = service->table_.Get(request.service());
    if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
      responder.FinishWithError(grpc::Status(grpc::StatusCode::NOT_FOUND, "unknown service"),
                                TagFor(Tag::Event::kFinish));
    } else {
      HealthCheckResponse response;
      response.set_status(status);
      responder.Finish(response, grpc::Status::OK, TagFor(Tag::Event::kFinish));
    }
    return true;
  }

  grpc::ServerAsyncResponseWriter<HealthCheckResponse> responder{&context};
};

struct HealthService::Watch final : Call {
  bool OnEvent(HealthService* service, Tag::Event event, bool ok) override {
    switch (event) {
      case Tag::Event::kRequest:
        if (!ok) return false;  // the done event of a call that never was does not come
        service->AcceptWatch();
        open = true;
        if (++service->watchers_ > limits::kMaxHealthWatchers) {
          busy = true;
          finishing = true;
          writer.Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many watchers"),
                        TagFor(Tag::Event::kFinish));
        } else {
          service->Update(this);
        }
        return true;
      case Tag::Event::kWrite:
      case Tag::Event::kFinish:
        busy = false;
        if (ok) service->Update(this);
        break;
      case Tag::Event::kDone:
        done = true;
        break;
    }
    if (!done || busy) return true;
    --service->watchers_;
    return false;
  }

  grpc::ServerAsyncWriter<HealthCheckResponse> writer{&context};
  std::optional<HealthTable::Status> sent;
  bool open = false;
  bool busy = false;  // a write or the finish is in flight
  bool finishing = false;
  bool done = false;
};

HealthService::HealthService(const std::vector<std::string>& services) : table_(services) {}

HealthService::~HealthService() = default;

void HealthService::Register(grpc::ServerBuilder* builder) {
  builder->RegisterService(&service_);
  queue_ = builder->AddCompletionQueue();
}

void HealthService::Start() {
  {
    std::lock_guard lock(mutex_);
    AcceptCheck();
    AcceptWatch();
  }
  thread_ = std::thread([this] { Run(); });
}

void HealthService::SetServing(bool serving) {
  table_.SetAll(serving);
  std::lock_guard lock(mutex_);
  if (stopping_ || alarm_pending_ || queue_ == nullptr) return;
  alarm_pending_ = true;
  alarm_.Set(queue_.get(), std::chrono::system_clock::now(), nullptr);
}

void HealthService::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  queue_->Shutdown();
  if (thread_.joinable()) {
    thread_.join();
  } else {  // built, but never started
    void* tag = nullptr;
    bool ok = false;
    while (queue_->Next(&tag, &ok)) {
    }
  }
  calls_.clear();
}

void HealthService::AcceptCheck() {
  if (stopping_) return;
  auto call = std::make_unique<Check>();
  service_.RequestCheck(&call->context, &call->request, &call->responder, queue_.get(),
                        queue_.get(), call->TagFor(Tag::Event::kRequest));
  calls_.push_back(std::move(call));
}

void HealthService::AcceptWatch() {
  if (stopping_) return;
  auto call = std::make_unique<Watch>();
  call->context.AsyncNotifyWhenDone(call->TagFor(Tag::Event::kDone));
  service_.RequestWatch(&call->context, &call->request, &call->writer, queue_.get(), queue_.get(),
                        call->TagFor(Tag::Event::kRequest));
  calls_.push_back(std::move(call));
}

void HealthService::Update(Watch* watch) {
  if (stopping_ || !watch->open || watch->busy || watch->finishing || watch->done) return;
  const HealthTable::Status status = table_.Get(watch->request.service());
  if (watch->sent == status) return;
  watch->sent = status;
  watch->busy = true;
  HealthCheckResponse response;
  response.set_status(status);
  watch->writer.Write(response, watch->TagFor(Tag::Event::kWrite));
}

void HealthService::Remove(Call* call) {
  calls_.remove_if([call](const std::unique_ptr<Call>& owned) { return owned.get() == call; });
}

void HealthService::Run() {
  void* entry = nullptr;
  bool ok = false;
  while (queue_->Next(&entry, &ok)) {
    std::lock_guard lock(mutex_);
    if (entry == nullptr) {  // the alarm: statuses changed
      alarm_pending_ = false;
      for (const auto& call : calls_) {
        if (auto* watch = dynamic_cast<Watch*>(call.get())) Update(watch);
      }
      continue;
    }
    const Tag tag = *static_cast<Tag*>(entry);
    // After Stop began no operation may be started; entries only come in.
    if (stopping_ && tag.event == Tag::Event::kRequest) ok = false;
    if (!tag.call->OnEvent(this, tag.event, ok)) Remove(tag.call);
  }
}

}  // namespace monet::server
