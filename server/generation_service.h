// monet.v1.GenerationService.
#pragma once

#include "monet/v1/generation.grpc.pb.h"
#include "server/call.h"

namespace monet::server {

namespace internal {
template <typename S>
using GenerationMethods = v1::GenerationService::WithRawCallbackMethod_Generate<
    v1::GenerationService::WithRawCallbackMethod_GenerateStream<
        v1::GenerationService::WithRawCallbackMethod_Score<
            v1::GenerationService::WithRawCallbackMethod_Tokenize<
                v1::GenerationService::WithRawCallbackMethod_Detokenize<
                    v1::GenerationService::WithRawCallbackMethod_GetModel<S>>>>>>;
}  // namespace internal

class GenerationService final : public internal::GenerationMethods<v1::GenerationService::Service> {
 public:
  explicit GenerationService(const ServiceContext& service) : service_(service) {}

  using Context = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;

  grpc::ServerUnaryReactor* Generate(Context* context, const Bytes* request,
                                     Bytes* response) override;
  grpc::ServerWriteReactor<Bytes>* GenerateStream(Context* context, const Bytes* request) override;
  grpc::ServerUnaryReactor* Score(Context* context, const Bytes* request, Bytes* response) override;
  grpc::ServerUnaryReactor* Tokenize(Context* context, const Bytes* request,
                                     Bytes* response) override;
  grpc::ServerUnaryReactor* Detokenize(Context* context, const Bytes* request,
                                       Bytes* response) override;
  grpc::ServerUnaryReactor* GetModel(Context* context, const Bytes* request,
                                     Bytes* response) override;

 private:
  const ServiceContext service_;
};

}  // namespace monet::server
