#include "runtime/policy/policy.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <system_error>
#include <utility>
#include <vector>

#include "runtime/base/bounded_file.h"
#include "runtime/base/strict_yaml.h"
#include "runtime/limits.h"
#include "runtime/policy/mask_file.h"

namespace monet {
namespace {

constexpr size_t kMaxDescriptionBytes = 1024;
constexpr size_t kMaxFileNameBytes = 255;
constexpr size_t kMaxShortBytes = 128;  // semantics, digests
constexpr size_t kMinModelTag = 8;      // digits of a fingerprint in a file's name
// zlib's own bound on what it makes of incompressible bytes.
constexpr size_t kMaxMaskFileBytes = limits::kMaxMaskBytes + (limits::kMaxMaskBytes >> 10) + 64;

bool IsLetterOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool IsPlainFileName(std::string_view name) {
  const auto is_plain = [](char c) {
    return IsLetterOrDigit(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_';
  };
  return !name.empty() && name[0] != '.' && std::all_of(name.begin(), name.end(), is_plain);
}

absl::StatusOr<std::string> MaskFileName(const YamlView& experts) {
  const YamlView file = experts["file"];
  if (!file.present()) return std::string();
  auto name = file.String(kMaxFileNameBytes);
  if (name.ok() && !IsPlainFileName(*name)) {
    return file.Fail("must be a plain file name (letters, digits, . - _)");
  }
  return name;
}

absl::StatusOr<Digest> ReadDigest(const YamlView& view, std::string_view prefix) {
  MONET_ASSIGN_OR_RETURN(const std::string text, view.AnyScalar(kMaxShortBytes));
  Digest digest;
  if (!Digest::Parse(std::string(prefix) + text, &digest)) {
    return view.Fail(prefix.empty() ? "must be sha256: and 64 lower-case hexadecimal digits"
                                    : "must be 64 lower-case hexadecimal digits");
  }
  return digest;
}

absl::StatusOr<MaskShape> ReadShape(const YamlView& root) {
  MaskShape shape;
  MONET_ASSIGN_OR_RETURN(const int64_t routers, root["routers"].Integer(1, limits::kMaxLayers));
  MONET_ASSIGN_OR_RETURN(const int64_t experts,
                         root["experts_per_side"].Integer(1, limits::kMaxExpertsPerSide));
  shape.routers = static_cast<int32_t>(routers);
  shape.experts = static_cast<int32_t>(experts);
  if (!shape.IsValid()) {
    return root["routers"].Fail(
        fmt::format("routers and experts_per_side make a mask of {} bytes, "
                    "limit {}",
                    shape.Bytes(), limits::kMaxMaskBytes));
  }
  return shape;
}

using MaskOr = absl::StatusOr<std::shared_ptr<const ExpertMask>>;

MaskOr ReadMaskFromFile(const YamlView& experts, MaskShape shape, std::string_view mask_file) {
  MONET_RETURN_IF_ERROR(experts.CheckKeys({"file", "sha256"}, {}));
  MONET_ASSIGN_OR_RETURN(const Digest expected, ReadDigest(experts["sha256"], "sha256:"));
  auto bitmap = InflateMask(mask_file, shape.Bytes());
  if (!bitmap.ok()) return experts["file"].Fail(Message(bitmap.status()));
  if (Sha256(*bitmap) != expected) {
    return experts["sha256"].Fail("is not the digest of the mask file's bitmap");
  }
  auto mask = ExpertMask::FromBitmap(shape, *std::move(bitmap));
  if (!mask.ok()) return experts["file"].Fail(Message(mask.status()));
  return mask;
}

// One of ids, rows and columns; absent means none.
template <typename Add>
absl::Status AddList(const YamlView& list, int64_t limit, Add add) {
  if (!list.present()) return absl::OkStatus();
  MONET_ASSIGN_OR_RETURN(const std::vector<YamlView> entries,
                         list.Sequence(limits::kMaxExplicitExperts));
  for (const YamlView& entry : entries) {
    MONET_ASSIGN_OR_RETURN(const int64_t value, entry.Integer(0, limit - 1));
    MONET_RETURN_IF_ERROR(add(value));
  }
  return absl::OkStatus();
}

MaskOr ReadInlineMask(const YamlView& experts, MaskShape shape) {
  MONET_RETURN_IF_ERROR(experts.CheckKeys({"inline"}, {}));
  MONET_ASSIGN_OR_RETURN(const std::vector<YamlView> groups,
                         experts["inline"].Sequence(static_cast<size_t>(shape.routers)));
  MaskBuilder builder(shape);
  std::vector<bool> seen(static_cast<size_t>(shape.routers));
  const int64_t side = shape.experts;
  for (const YamlView& group : groups) {
    MONET_RETURN_IF_ERROR(group.CheckKeys({"router"}, {"ids", "rows", "columns"}));
    MONET_ASSIGN_OR_RETURN(const int64_t number, group["router"].Integer(0, shape.routers - 1));
    if (seen[number]) return group["router"].Fail("occurs twice");
    seen[number] = true;
    const auto router = static_cast<int32_t>(number);
    MONET_RETURN_IF_ERROR(AddList(group["ids"], side * side,
                                  [&](int64_t id) { return builder.AddExpert(router, id); }));
    MONET_RETURN_IF_ERROR(
        AddList(group["rows"], side, [&](int64_t i) { return builder.AddRow(router, i); }));
    MONET_RETURN_IF_ERROR(
        AddList(group["columns"], side, [&](int64_t j) { return builder.AddColumn(router, j); }));
  }
  return std::move(builder).Build();
}

absl::Status ReadSemantics(const YamlView& view, std::string* semantics) {
  MONET_ASSIGN_OR_RETURN(*semantics, view.String(kMaxShortBytes));
  if (*semantics == "zero") return absl::OkStatus();
  if (*semantics == "renormalise" || *semantics == "mean") return view.Fail("is not implemented");
  return view.Fail("must be zero");
}

absl::Status ReadDescription(const YamlView& view, std::string* description) {
  if (!view.present()) return absl::OkStatus();
  MONET_ASSIGN_OR_RETURN(*description, view.String(kMaxDescriptionBytes));
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (std::any_of(description->begin(), description->end(), is_control)) {
    return view.Fail("must be one line without control characters");
  }
  return absl::OkStatus();
}

absl::Status ReadBuilt(const YamlView& built) {
  return built.present() ? built.CheckMap() : absl::OkStatus();
}

// "1.yaml", or "1.17616dbb.yaml" with the beginning of the model's fingerprint.
absl::Status CheckFileName(const Policy& policy, std::string_view file) {
  std::string_view rest = file;
  const std::string version = std::to_string(policy.version);
  if (!rest.starts_with(version + ".") || !rest.ends_with(".yaml")) {
    return InvalidArgument("version is {}, not the file's name", policy.version);
  }
  rest.remove_prefix(version.size());
  rest.remove_suffix(std::string_view(".yaml").size());
  if (rest.empty()) return absl::OkStatus();
  rest.remove_prefix(1);
  const std::string model = policy.model.ToString().substr(std::string_view("sha256:").size());
  if (rest.size() >= kMinModelTag && model.starts_with(rest)) return absl::OkStatus();
  return InvalidArgument(
      "the file's name must be {0}.yaml, or {0}. with the first {1} or more digits of the model's "
      "fingerprint and .yaml",
      policy.version, kMinModelTag);
}

absl::StatusOr<PolicyFile> ReadNamedPolicy(const std::filesystem::path& yaml_path) {
  PolicyFile file;
  MONET_ASSIGN_OR_RETURN(file.yaml, ReadBoundedFile(yaml_path, limits::kMaxPolicyFileBytes));
  MONET_ASSIGN_OR_RETURN(file.mask_name, PolicyMaskFileName(file.yaml));
  if (!file.mask_name.empty()) {
    auto bytes = ReadBoundedFile(yaml_path.parent_path() / file.mask_name, kMaxMaskFileBytes);
    if (!bytes.ok()) return InvalidArgument("{}: {}", file.mask_name, Message(bytes.status()));
    file.mask = *std::move(bytes);
  }
  MONET_ASSIGN_OR_RETURN(file.policy, ParsePolicy(file.yaml, file.mask));
  if (file.policy.name != yaml_path.parent_path().filename()) {
    return InvalidArgument("name is {}, not the folder's name", file.policy.name);
  }
  MONET_RETURN_IF_ERROR(CheckFileName(file.policy, yaml_path.filename().string()));
  return file;
}

}  // namespace

bool IsPolicyName(std::string_view name) {
  if (name.empty() || name.size() > limits::kMaxPolicyNameBytes) return false;
  if (!IsLetterOrDigit(name.front()) || !IsLetterOrDigit(name.back())) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return IsLetterOrDigit(c) || c == '-'; });
}

absl::StatusOr<Policy> ParsePolicy(std::string_view yaml, std::string_view mask_file) {
  MONET_ASSIGN_OR_RETURN(const YamlNode tree, ParseStrictYaml(yaml, limits::kMaxPolicyFileBytes));
  const YamlView root(tree);
  MONET_RETURN_IF_ERROR(root.CheckKeys(
      {"format", "name", "version", "model", "semantics", "routers", "experts_per_side", "experts"},
      {"description", "built"}));
  MONET_RETURN_IF_ERROR(root["format"].Integer(1, 1).status());

  Policy policy;
  MONET_ASSIGN_OR_RETURN(policy.name, root["name"].String(limits::kMaxPolicyNameBytes));
  if (!IsPolicyName(policy.name)) {
    return root["name"].Fail("must be lower-case letters, digits and inner hyphens");
  }
  MONET_ASSIGN_OR_RETURN(const int64_t version,
                         root["version"].Integer(1, std::numeric_limits<int32_t>::max()));
  policy.version = static_cast<int32_t>(version);
  MONET_RETURN_IF_ERROR(ReadDescription(root["description"], &policy.description));
  MONET_ASSIGN_OR_RETURN(policy.model, ReadDigest(root["model"], ""));
  MONET_RETURN_IF_ERROR(ReadSemantics(root["semantics"], &policy.semantics));
  MONET_RETURN_IF_ERROR(ReadBuilt(root["built"]));

  MONET_ASSIGN_OR_RETURN(const MaskShape shape, ReadShape(root));
  const YamlView experts = root["experts"];
  MONET_RETURN_IF_ERROR(experts.CheckKeys({}, {"file", "sha256", "inline"}));
  MONET_ASSIGN_OR_RETURN(const std::string mask_name, MaskFileName(experts));
  if (mask_name.empty()) {
    if (!mask_file.empty()) return experts.Fail("names no file, but a mask file was given");
    MONET_ASSIGN_OR_RETURN(policy.mask, ReadInlineMask(experts, shape));
  } else {
    MONET_ASSIGN_OR_RETURN(policy.mask, ReadMaskFromFile(experts, shape, mask_file));
  }
  policy.digest = PolicyDigest(policy);
  return policy;
}

absl::StatusOr<std::string> PolicyMaskFileName(std::string_view yaml) {
  MONET_ASSIGN_OR_RETURN(const YamlNode tree, ParseStrictYaml(yaml, limits::kMaxPolicyFileBytes));
  const YamlView experts = YamlView(tree)["experts"];
  MONET_RETURN_IF_ERROR(experts.CheckMap());
  return MaskFileName(experts);
}

absl::StatusOr<PolicyFile> ReadPolicyFile(const std::filesystem::path& yaml_path) {
  auto file = ReadNamedPolicy(yaml_path);
  if (file.ok()) return file;
  return InvalidArgument("{}/{}: {}", yaml_path.parent_path().filename().string(),
                         yaml_path.filename().string(), Message(file.status()));
}

Digest PolicyDigest(const Policy& policy) {
  constexpr std::string_view kTag("monet-policy-1\0", 15);
  const MaskShape& shape = policy.mask->shape();
  return Hasher()
      .Update(kTag)
      .Update(policy.semantics)
      .Update(std::string_view("\0", 1))
      .Update(policy.model.bytes)
      .UpdateU32(static_cast<uint32_t>(shape.routers))
      .UpdateU32(static_cast<uint32_t>(shape.experts))
      .Update(policy.mask->bitmap())
      .Finish();
}

}  // namespace monet
