// monet.v1.PolicyService.
#pragma once

#include "monet/v1/policy.grpc.pb.h"
#include "server/call.h"

namespace monet::server {

class PolicyService final
    : public v1::PolicyService::WithRawCallbackMethod_ListPolicies<
          v1::PolicyService::WithRawCallbackMethod_GetPolicy<v1::PolicyService::Service>> {
 public:
  explicit PolicyService(const ServiceContext& service) : service_(service) {}

  grpc::ServerUnaryReactor* ListPolicies(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* request,
                                         grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetPolicy(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;

 private:
  const ServiceContext service_;
};

}  // namespace monet::server
