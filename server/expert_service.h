// monet.v1.ExpertService: Explain. CollectRouting is not implemented and answers UNIMPLEMENTED.
#pragma once

#include "monet/v1/expert.grpc.pb.h"
#include "server/call.h"

namespace monet::server {

namespace internal {
// A method of the callback API that nobody overrides answers UNIMPLEMENTED by itself.
template <typename S>
using ExpertMethods = v1::ExpertService::WithRawCallbackMethod_Explain<
    v1::ExpertService::WithRawCallbackMethod_CollectRouting<S>>;
}  // namespace internal

class ExpertService final : public internal::ExpertMethods<v1::ExpertService::Service> {
 public:
  explicit ExpertService(const ServiceContext& service) : service_(service) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Explain(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request) override;

 private:
  const ServiceContext service_;
};

}  // namespace monet::server
