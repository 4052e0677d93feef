// A call that runs the model, from admission to its end: the part that unary calls and streams
// share.
//
// Life, in order, each step by one thread at a time:
//   Begin        gRPC's thread: gate, identity, queue checks
//   Prepare      ingress pool: parse, tokenise, unite the mask, hand to the engine
//   On…          engine's thread: deltas, then the result
//   Done         gRPC's thread: the call is over
// A cancel may come at any time from gRPC's thread; it only tells the engine, whose result then
// ends the call. Exactly one Complete ends every call.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "monet/v1/generation.pb.h"
#include "server/call.h"

namespace monet::server {

class EngineCall : public EngineSink, public std::enable_shared_from_this<EngineCall> {
 public:
  ~EngineCall() override = default;

 protected:
  // `method` must outlive the call; `context` and `request` are gRPC's and live until Complete.
  EngineCall(const ServiceContext& service, const char* method,
             grpc::CallbackServerContext* context, const grpc::ByteBuffer* request)
      : service_(service), method_(method), context_(context), request_(request) {}

  // To be called by the gRPC reactor's side.
  void Begin();   // after construction, once the object is in a shared_ptr
  void Cancel();  // from OnCancel
  void Done();    // from OnDone; may delete this
  void Resume();  // the output has room again
  // Breaks off a call whose client takes nothing; it then ends as if the client had cancelled. From
  // any thread, at any time once the request is accepted.
  void BreakOff();

  // EngineSink; the last calls of a subclass's own.
  void NoteDelta(const EngineDelta& delta);
  void NoteResult(const EngineResult& result);
  // Ends the call: counts and logs it, then calls Finish.
  void Complete(const absl::Status& status);

  // Ingress pool: parses and checks.
  virtual absl::StatusOr<CallInput> Parse(const grpc::ByteBuffer& bytes,
                                          const ServedShape& shape) = 0;
  // Ingress pool, before the engine has the request: keeps the header and, when the prompt is to be
  // returned too, its text.
  virtual absl::Status Accept(v1::ResponseHeader header, const std::string& echo) = 0;
  // Ingress pool, after the engine took the request.
  virtual void Started() {}
  // Ends the gRPC call. The context and the request must not be used afterwards.
  virtual void FinishCall(const grpc::Status& status) = 0;

 private:
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
  Identity identity_;
  std::string request_id_;
  Clock::time_point deadline_ = Clock::time_point::max();
  EngineUsage usage_;           // of the result, for the log
  bool reached_model_ = false;  // the engine took the request
  Clock::time_point last_delta_{};

  std::mutex context_mutex_;  // never taken in a reaction but OnDone: BreakOff may cause the others
  bool context_gone_ = false;

  std::mutex mutex_;  // the four below
  bool has_id_ = false;
  bool cancelled_ = false;
  bool resume_wanted_ = false;
  Engine::RequestId id_ = 0;
};

}  // namespace monet::server
