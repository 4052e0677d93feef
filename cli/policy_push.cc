// monetctl policy push: puts policies where servers read them.
#include "runtime/policy/policy_push.h"

#include <openssl/evp.h>

#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "cli/exit_status.h"
#include "cli/json_shapes.h"
#include "cli/options.h"
#include "cli/policy_commands.h"
#include "cli/policy_source.h"
#include "runtime/policy/registry.h"

namespace monet::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl policy push build/no-python/2.yaml --to /srv/policies\n"
    "  monetctl policy push policies/no-python/1.yaml policies/no-python/2.yaml \\\n"
    "      --configmap policy-no-python | kubectl apply -f -\n\n"
    "Each FILE and the mask beside it are checked first. Files are written under hidden names, "
    "made\n"
    "to last and renamed, the mask before its policy: a server that watches the directory never\n"
    "meets half a policy. A version that is there with the same digest is left alone, with "
    "another\n"
    "one it is an error. With --configmap nothing is written: the ConfigMap of one policy, all "
    "of\n"
    "whose versions must be given, is printed as JSON.";

// What the API server of Kubernetes takes in one ConfigMap.
constexpr size_t kMaxConfigMapBytes = 1 << 20;

struct PushArguments {
  explicit PushArguments(CLI::App* app) {
    files =
        AddRepeated(app, "FILE", "", "Policy files: NAME/VERSION.yaml")->required()->expected(-1);
    to = AddValue(app, "--to", "DIR", "Policy directory to write into");
    configmap = AddValue(app, "--configmap", "NAME", "Print a ConfigMap of this name instead");
    space = AddValue(app, "--namespace", "NAME", "Namespace of the ConfigMap. Default: none");
    app->add_flag("--json", json, "Print one JSON object");
  }

  CLI::Option *files, *to, *configmap, *space;
  bool json = false;
};

struct Source {
  std::string path;
  PolicyFile file;

  std::string file_name() const { return fs::path(path).filename().string(); }
};

std::string Base64(const std::string& bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock adds a NUL
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

// DNS names of Kubernetes, RFC 1123: parts of letters, digits and inner hyphens, with dots between.
bool IsObjectName(const std::string& name) {
  if (name.empty() || name.size() > 253) return false;
  size_t begin = 0;
  while (true) {
    const size_t end = name.find('.', begin);
    if (!IsPolicyName(std::string_view(name).substr(begin, end - begin))) return false;
    if (end == std::string::npos) return true;
    begin = end + 1;
  }
}

absl::StatusOr<std::vector<Source>> ReadSources(const PushArguments& arguments) {
  MONET_ASSIGN_OR_RETURN(const std::vector<std::string> paths, TextsOf(arguments.files));
  std::vector<Source> sources;
  for (const std::string& path : paths) {
    MONET_ASSIGN_OR_RETURN(PolicyFile file, ReadPolicyAt(path));
    sources.push_back({path, std::move(file)});
  }
  return sources;
}

// The whole directory must still be one that a server of the policy's model takes.
absl::Status CheckDirectory(const Policy& policy, const std::string& directory) {
  const auto snapshot = PolicySnapshot::Load(directory, policy.model, policy.mask->shape());
  if (snapshot.ok()) return absl::OkStatus();
  return MarkCallFailed(Error(absl::StatusCode::kFailedPrecondition,
                              "{}@{} is written, but servers refuse the directory: {}", policy.name,
                              policy.version, Message(snapshot.status())));
}

absl::Status PushAll(const std::vector<Source>& sources, const std::string& directory, bool json,
                     Console* console) {
  Json result;
  result["policies"] = Json::array();
  for (const Source& source : sources) {
    const Policy& policy = source.file.policy;
    const auto pushed = PushPolicy(source.file, source.file_name(), directory);
    if (!pushed.ok()) {
      return Error(pushed.status().code(), "{}: {}", directory, Message(pushed.status()));
    }
    MONET_RETURN_IF_ERROR(CheckDirectory(policy, directory));
    const char* const how = *pushed == PushResult::kWritten ? "written" : "unchanged";
    if (json) {
      result["policies"].push_back({{"name", policy.name},
                                    {"version", policy.version},
                                    {"digest", policy.digest.ToString()},
                                    {"result", how}});
      continue;
    }
    MONET_RETURN_IF_ERROR(console->Write(fmt::format("{}@{}  {}  {}\n", policy.name, policy.version,
                                                     policy.digest.ToString(), how)));
  }
  return json ? console->Write(Line(result)) : absl::OkStatus();
}

absl::StatusOr<std::string> ConfigMap(const std::vector<Source>& sources, const std::string& name,
                                      const std::string& space) {
  Json object = {{"apiVersion", "v1"}, {"kind", "ConfigMap"}, {"metadata", {{"name", name}}}};
  if (!space.empty()) object["metadata"]["namespace"] = space;
  size_t bytes = 0;
  for (const Source& source : sources) {
    const PolicyFile& file = source.file;
    if (file.policy.name != sources[0].file.policy.name) {
      return InvalidArgument("--configmap holds one policy, not {} and {}",
                             sources[0].file.policy.name, file.policy.name);
    }
    bytes += file.yaml.size() + file.mask.size();
    if (object["data"].contains(source.file_name())) {
      return InvalidArgument("{} is given twice", source.path);
    }
    object["data"][source.file_name()] = file.yaml;
    if (file.mask_name.empty()) continue;
    Json& mask = object["binaryData"][file.mask_name];
    if (!mask.is_null()) {
      return InvalidArgument("{}: another file names {} too", source.path, file.mask_name);
    }
    mask = Base64(file.mask);
  }
  if (bytes > kMaxConfigMapBytes) {
    return InvalidArgument("the files have {} bytes, a ConfigMap holds {}", bytes,
                           kMaxConfigMapBytes);
  }
  return object.dump(2) + "\n";
}

absl::Status RunPush(const PushArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const auto to, TextOf(arguments.to));
  MONET_ASSIGN_OR_RETURN(const auto configmap, TextOf(arguments.configmap));
  MONET_ASSIGN_OR_RETURN(const auto space, TextOf(arguments.space));
  if (to.has_value() == configmap.has_value()) {
    return InvalidArgument("--to and --configmap: give one of them");
  }
  if (to && space) return InvalidArgument("--namespace needs --configmap");
  if (configmap && !IsObjectName(*configmap)) {
    return InvalidArgument("--configmap is '{}', no name of an object in Kubernetes", *configmap);
  }
  if (space && !IsPolicyName(*space)) {
    return InvalidArgument("--namespace is '{}', no name of a namespace", *space);
  }
  MONET_ASSIGN_OR_RETURN(const std::vector<Source> sources, ReadSources(arguments));
  if (to) return PushAll(sources, *to, arguments.json, session.console);
  MONET_ASSIGN_OR_RETURN(const std::string text,
                         ConfigMap(sources, *configmap, space.value_or("")));
  return session.console->Write(text);
}

}  // namespace

Command AddPolicyPush(CLI::App* policy) {
  CLI::App* app = policy->add_subcommand("push", "Write policies where servers read them");
  app->footer(kExample);
  auto arguments = std::make_shared<PushArguments>(app);
  return {app, [arguments](const Session& session) { return RunPush(*arguments, session); }};
}

}  // namespace monet::cli
