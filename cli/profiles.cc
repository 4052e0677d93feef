#include "cli/profiles.h"

#include <sys/stat.h>

#include <filesystem>
#include <utility>

#include "cli/text_input.h"
#include "runtime/base/strict_yaml.h"

namespace monet::cli {
namespace {

// Whether users other than the owner and the group may read it. A file that cannot be looked at is
// reported when it is read.
bool IsWorldReadable(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && (status.st_mode & S_IROTH) != 0;
}

absl::Status RefuseWorldReadable(const std::string& path) {
  return InvalidArgument("'{}' holds a key and everybody may read it; run: chmod 600 '{}'", path,
                         path);
}

absl::Status ReadText(const YamlView& view, const char* key, std::string* text) {
  if (!view[key].present()) return absl::OkStatus();
  MONET_ASSIGN_OR_RETURN(*text, view[key].String(kMaxProfileTextBytes));
  if (text->empty()) return view[key].Fail("must not be empty");
  return absl::OkStatus();
}

absl::Status ReadSwitch(const YamlView& view, const char* key, bool* on) {
  if (!view[key].present()) return absl::OkStatus();
  MONET_ASSIGN_OR_RETURN(*on, view[key].Bool());
  return absl::OkStatus();
}

absl::StatusOr<Profile> ParseProfile(const YamlView& view, const std::string& folder) {
  Profile profile;
  MONET_RETURN_IF_ERROR(view.CheckKeys(
      {"server"}, {"tls", "insecure", "ca", "cert", "cert_key", "key", "key_file", "key_env"}));
  MONET_RETURN_IF_ERROR(ReadText(view, "server", &profile.server));
  MONET_RETURN_IF_ERROR(ReadSwitch(view, "tls", &profile.tls));
  MONET_RETURN_IF_ERROR(ReadSwitch(view, "insecure", &profile.insecure));
  MONET_RETURN_IF_ERROR(ReadText(view, "key", &profile.key));
  MONET_RETURN_IF_ERROR(ReadText(view, "key_env", &profile.key_env));
  for (const auto& [key, path] :
       {std::pair{"ca", &profile.ca}, std::pair{"cert", &profile.cert},
        std::pair{"cert_key", &profile.cert_key}, std::pair{"key_file", &profile.key_file}}) {
    MONET_RETURN_IF_ERROR(ReadText(view, key, path));
    if (!path->empty()) *path = (std::filesystem::path(folder) / *path).string();
  }
  if (!profile.key.empty() + !profile.key_file.empty() + !profile.key_env.empty() > 1) {
    return view.Fail("has more than one of key, key_file and key_env");
  }
  return profile;
}

bool HasKey(const Profiles& profiles) {
  for (const auto& [name, profile] : profiles.by_name) {
    if (!profile.key.empty()) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<Profiles> ParseProfiles(std::string_view yaml, const std::string& folder) {
  MONET_ASSIGN_OR_RETURN(const YamlNode root, ParseStrictYaml(yaml, kMaxProfilesBytes));
  const YamlView view(root);
  MONET_RETURN_IF_ERROR(view.CheckKeys({"profiles"}, {"default"}));
  MONET_RETURN_IF_ERROR(view["profiles"].CheckMap());
  Profiles profiles;
  for (const YamlNode& node : root.members) {
    if (node.key != "profiles") continue;
    for (const YamlNode& member : node.members) {
      MONET_ASSIGN_OR_RETURN(profiles.by_name[member.key],
                             ParseProfile(view["profiles"][member.key], folder));
    }
  }
  MONET_RETURN_IF_ERROR(ReadText(view, "default", &profiles.default_profile));
  if (!profiles.default_profile.empty() && !profiles.by_name.contains(profiles.default_profile)) {
    return view["default"].Fail("names no profile of this file");
  }
  return profiles;
}

absl::StatusOr<Profiles> ReadProfiles(const std::string& path) {
  MONET_ASSIGN_OR_RETURN(const std::string yaml, ReadInput(path));
  absl::StatusOr<Profiles> profiles =
      ParseProfiles(yaml, std::filesystem::path(path).parent_path().string());
  if (!profiles.ok()) return InvalidArgument("'{}': {}", path, Message(profiles.status()));
  if (HasKey(*profiles) && IsWorldReadable(path)) return RefuseWorldReadable(path);
  return profiles;
}

absl::StatusOr<std::string> ReadKeyFile(const std::string& path) {
  MONET_ASSIGN_OR_RETURN(std::string key, ReadInput(path));
  if (path != "-" && IsWorldReadable(path)) return RefuseWorldReadable(path);
  key.erase(key.find_last_not_of(" \t\r\n") + 1);
  return key;
}

}  // namespace monet::cli
