#include "server/policy_service.h"

#include <charconv>
#include <string>
#include <tuple>

#include "runtime/base/reasons.h"
#include "server/response_conversion.h"

namespace monet::server {
namespace {

// Whether the caller may see a policy: those that it may name and those it always runs under.
bool Visible(const PolicySnapshot& snapshot, const Tenant& tenant, const Policy& policy) {
  return tenant.Allows(policy) || IsMandatory(snapshot, tenant, policy);
}

// A page token is the last policy of the page before, "name@version": it stays right when policies
// come and go between pages.
absl::Status ParsePageToken(const std::string& token, std::string* name, int32_t* version) {
  const size_t at = token.find('@');
  const char* const end = token.data() + token.size();
  if (at != std::string::npos && IsPolicyName(std::string_view(token).substr(0, at))) {
    const auto [rest, error] = std::from_chars(token.data() + at + 1, end, *version);
    if (error == std::errc() && rest == end) {
      *name = token.substr(0, at);
      return absl::OkStatus();
    }
  }
  return InvalidField("page_token is not one that ListPolicies returned");
}

absl::Status HandleListPolicies(const ServingModel& model, const Identity& identity,
                                const v1::ListPoliciesRequest& request,
                                v1::ListPoliciesResponse* response) {
  MONET_ASSIGN_OR_RETURN(const int32_t page, CheckListPolicies(request));
  std::string name;
  int32_t version = 0;
  if (!request.page_token().empty()) {
    MONET_RETURN_IF_ERROR(ParsePageToken(request.page_token(), &name, &version));
  }
  const auto snapshot = model.policies->Current();
  for (const auto& policy : snapshot->policies()) {
    if (std::tie(policy->name, policy->version) <= std::tie(name, version)) continue;
    if (!Visible(*snapshot, *identity.tenant, *policy)) continue;
    if (response->policies_size() == page) {
      const v1::Policy& last = response->policies(page - 1);
      response->set_next_page_token(fmt::format("{}@{}", last.name(), last.version()));
      break;
    }
    FillPolicy(*policy, response->add_policies());
  }
  return absl::OkStatus();
}

absl::Status HandleGetPolicy(const ServingModel& model, const Identity& identity,
                             const v1::GetPolicyRequest& request, v1::GetPolicyResponse* response) {
  MONET_RETURN_IF_ERROR(CheckPolicyReference("policy", request.policy()));
  const auto snapshot = model.policies->Current();
  MONET_ASSIGN_OR_RETURN(const auto policy,
                         FindVisible(*snapshot, *identity.tenant, request.policy()));
  FillPolicy(*policy, response->mutable_policy());
  if (!request.include_bitmap()) return absl::OkStatus();
  const auto bitmap = policy->mask->bitmap();
  if (bitmap.size() > limits::kMaxResponseBytes) {
    return Refuse(Reason::kTooLarge, "the bitmap is {} bytes, limit {}", bitmap.size(),
                  limits::kMaxResponseBytes);
  }
  response->set_bitmap(bitmap.data(), bitmap.size());
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* PolicyService::ListPolicies(grpc::CallbackServerContext* context,
                                                      const grpc::ByteBuffer* request,
                                                      grpc::ByteBuffer* response) {
  return UnaryCall::Start(
      service_, "PolicyService/ListPolicies", context, request, response,
      UnaryWork<v1::ListPoliciesRequest, v1::ListPoliciesResponse>(HandleListPolicies));
}

grpc::ServerUnaryReactor* PolicyService::GetPolicy(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request,
                                                   grpc::ByteBuffer* response) {
  return UnaryCall::Start(service_, "PolicyService/GetPolicy", context, request, response,
                          UnaryWork<v1::GetPolicyRequest, v1::GetPolicyResponse>(HandleGetPolicy));
}

}  // namespace monet::server
