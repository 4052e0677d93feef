// A call that runs the model, from admission to its end: the part that unary calls and streams
// share.
//
// Life, in order, each step by one thread at a time:
//   Begin        gRPC's thread: gate, identity, queue checks
//   Prepare      ingress pool: parse, tokenise, unite the mask, hand to the engine
//   Take…, End…  engine's thread: for each sample deltas, then its end
//   Done         gRPC's thread: the call is over
// A cancel may come at any time from gRPC's thread; it only tells the engine, whose result then
// ends the call. A sample that fails cancels the others; the call ends when all samples have, with
// the first failure. Exactly one Complete ends every call.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "monet/v1/generation.pb.h"
#include "server/call.h"

namespace monet::server {

class EngineCall : public std::enable_shared_from_this<EngineCall> {
 public:
  virtual ~EngineCall() = default;

 protected:
  // `method` must outlive the call; `context` and `request` are gRPC's and live until Complete.
  EngineCall(const ServiceContext& service, const char* method,
             grpc::CallbackServerContext* context, const grpc::ByteBuffer* request)
      : service_(service),
        method_(method),
        context_(context),
        request_(request),
        account_(service.accounting, method) {}

  // To be called by the gRPC reactor's side.
  void Begin();   // after construction, once the object is in a shared_ptr
  void Cancel();  // from OnCancel
  void Done();    // from OnDone; may delete this
  void Resume();  // the output has room again
  // Breaks off a call whose client takes nothing; it then ends as if the client had cancelled. From
  // any thread, at any time once the request is accepted.
  void BreakOff();

  // Ingress pool: the caller's own id, before anything else of the request is looked at, so that
  // refusals are recorded with it. One that is absent or no id is left to Parse.
  void NoteRequestId(const std::string& id);
  // Ingress pool: calls NoteRequestId, parses and checks.
  virtual absl::StatusOr<CallInput> Parse(const grpc::ByteBuffer& bytes,
                                          const ServedShape& shape) = 0;
  // Ingress pool, before the engine has the request: keeps the header and, when the prompt is to be
  // returned too, its text.
  virtual absl::Status Accept(v1::ResponseHeader header, const std::string& echo, int32_t n) = 0;
  // Ingress pool, after the engine took the request.
  virtual void Started() {}
  // Engine's thread, until a sample has failed; see EngineSink.
  virtual bool HasRoom() = 0;
  virtual void TakeDelta(int32_t sample, EngineDelta delta) = 0;
  virtual void TakeResult(int32_t sample, const EngineResult& result) = 0;
  // Engine's thread, after the last TakeResult when all samples ended well.
  virtual absl::Status TakeEnd() = 0;
  // Ends the gRPC call. The context and the request must not be used afterwards.
  virtual void FinishCall(const grpc::Status& status) = 0;

 private:
  class SampleSink;

  void OnDelta(int32_t sample, EngineDelta delta);
  void OnFinish(int32_t sample, const EngineResult& result);
  void NoteDelta(int32_t sample, const EngineDelta& delta);
  void NoteResult(const EngineResult& result);
  // Ends the call: counts and logs it, then calls FinishCall.
  void Complete(const absl::Status& status);

  void Prepare();
  absl::Status Submit();
  absl::StatusOr<ResolvedMask> FillMask(const PolicySnapshot& snapshot, CallInput* input);
  v1::ResponseHeader MakeHeader(const CallInput& input, const ResolvedMask& mask,
                                const PolicySnapshot& snapshot) const;
  absl::Status Refine(const absl::Status& status) const;

  const ServiceContext service_;
  const char* const method_;
  grpc::CallbackServerContext* const context_;
  const grpc::ByteBuffer* const request_;
  const Clock::time_point arrival_ = Clock::now();

  std::shared_ptr<EngineCall> self_;  // keeps this until Done
  Admission::Pass pass_;
  CallAccount account_;
  std::string request_id_;
  Clock::time_point deadline_ = Clock::time_point::max();
  bool reached_model_ = false;  // the engine took the request
  bool generating_ = false;     // its tokens come one after the other

  // The engine's thread's, once it has the request.
  size_t unfinished_ = 0;                      // samples
  absl::Status failure_;                       // the first
  std::vector<Clock::time_point> last_delta_;  // by sample

  std::mutex context_mutex_;  // never taken in a reaction but OnDone: BreakOff may cause the others
  bool context_gone_ = false;

  std::mutex mutex_;  // the three below
  bool cancelled_ = false;
  bool resume_wanted_ = false;
  std::vector<Engine::RequestId> ids_;  // by sample; empty until the engine took them
};

// Makes a call of a service and begins it.
template <typename Call, typename... Args>
Call* StartCall(Args&&... args) {
  const auto call = std::make_shared<Call>(std::forward<Args>(args)...);
  call->Begin();  // keeps itself from here on
  return call.get();
}

}  // namespace monet::server
