#include "cli/policy_source.h"

#include <cmath>
#include <utility>
#include <vector>

#include "cli/exit_status.h"

namespace monet::cli {
namespace {

// R and E, which the API tells by counts. False when they make no sense.
bool ShapeOf(const v1::Policy& policy, MaskShape* shape) {
  const int64_t routers = policy.experts_removed_by_router_size();
  if (routers < 1 || policy.experts_total() < routers || policy.experts_total() % routers != 0) {
    return false;
  }
  const int64_t experts = policy.experts_total() / routers;
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(experts))));
  if (side * side != experts || side > (int64_t{1} << 30)) return false;
  *shape = {static_cast<int32_t>(routers), static_cast<int32_t>(side)};
  return shape->IsValid();
}

absl::StatusOr<Policy> Convert(const v1::GetPolicyResponse& response) {
  const v1::Policy& from = response.policy();
  Policy policy;
  policy.name = from.name();
  policy.version = from.version();
  policy.description = from.description();
  policy.semantics = from.semantics();
  MaskShape shape;
  if (!Digest::Parse(from.model_fingerprint(), &policy.model) || !ShapeOf(from, &shape)) {
    return BadAnswer("a policy without fingerprint or shape");
  }
  const std::string& bytes = response.bitmap();
  auto mask = ExpertMask::FromBitmap(shape, std::vector<uint8_t>(bytes.begin(), bytes.end()));
  if (!mask.ok()) return BadAnswer("the bitmap: {}", Message(mask.status()));
  policy.mask = *std::move(mask);
  policy.digest = PolicyDigest(policy);
  if (policy.digest.ToString() != from.digest() ||
      policy.mask->digest().ToString() != from.mask_digest()) {
    return BadAnswer("the bitmap is not that of the digest");
  }
  return policy;
}

}  // namespace

bool IsPolicyPath(const std::string& text) {
  return text.find('/') != std::string::npos || text.ends_with(".yaml");
}

absl::StatusOr<PolicyFile> ReadPolicyAt(const std::filesystem::path& path) {
  std::error_code error;
  // The folder's name is the policy's, so one is needed: "1.yaml" alone is looked at from here.
  const std::filesystem::path whole = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return InvalidArgument("{}: {}", path.string(), error.message());
  auto file = ReadPolicyFile(whole);
  if (!file.ok()) return InvalidArgument("{}: {}", path.string(), Message(file.status()));
  return file;
}

absl::StatusOr<Policy> FetchPolicy(const std::string& reference, Connection* connection) {
  v1::GetPolicyRequest request;
  request.set_policy(reference);
  request.set_include_bitmap(true);
  v1::GetPolicyResponse response;
  MONET_RETURN_IF_ERROR(connection->Unary([&](grpc::ClientContext* context) {
    return connection->policy().GetPolicy(context, request, &response);
  }));
  return Convert(response);
}

std::string RemovedText(int64_t removed, int64_t total) {
  return fmt::format("{} experts ({:.2f} %)", removed,
                     100.0 * static_cast<double>(removed) / static_cast<double>(total));
}

}  // namespace monet::cli
