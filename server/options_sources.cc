// Where options come from: the command line (CLI11) and the YAML file.
#include <CLI/CLI.hpp>
#include <fstream>
#include <map>
#include <utility>

#include "runtime/base/strict_yaml.h"
#include "runtime/limits.h"
#include "server/options.h"
#include "server/settings.h"

namespace monet::server {
namespace {

const Setting* FindSetting(std::string_view key) {
  for (const Setting& setting : Settings()) {
    if (key == setting.key) return &setting;
  }
  return nullptr;
}

// The value as the setting's flag would have it.
absl::StatusOr<std::string> TextOf(const Setting& setting, const YamlView& value) {
  switch (setting.kind) {
    case Setting::Kind::kSwitch: {
      MONET_ASSIGN_OR_RETURN(const bool on, value.Bool());
      return on ? "true" : "false";
    }
    case Setting::Kind::kInteger: {
      MONET_ASSIGN_OR_RETURN(const int64_t number, value.Integer(setting.min, setting.max));
      return std::to_string(number);
    }
    case Setting::Kind::kText:
      break;
  }
  return value.String(limits::kMaxSettingBytes);
}

absl::Status ApplyYamlFile(const std::string& path, ServerOptions* options) {
  std::ifstream file(path, std::ios::binary);
  std::string text(limits::kMaxServerConfigBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return InvalidArgument("--config {}: cannot be read", path);
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > limits::kMaxServerConfigBytes) {
    return InvalidArgument("--config {}: larger than {} bytes", path,
                           limits::kMaxServerConfigBytes);
  }
  const absl::Status status = ApplyYaml(text, options);
  if (!status.ok()) return InvalidArgument("--config {}: {}", path, Message(status));
  return absl::OkStatus();
}

constexpr char kFooter[] =
    "\nThe configuration file is one YAML map with the same keys, '_' for '-' (kv_tokens: 4096).\n"
    "Unknown and repeated keys are errors, and so is an empty file ({} sets nothing). Flags win "
    "over "
    "the file.\n"
    "Exit codes: 0 drained after SIGTERM or SIGINT or checked without an error, 2 bad options,\n"
    "model or policies, or an address in use, 128 + signal when a second signal cut the drain "
    "short.";

}  // namespace

absl::Status ApplyYaml(std::string_view yaml, ServerOptions* options) {
  MONET_ASSIGN_OR_RETURN(const YamlNode root, ParseStrictYaml(yaml, limits::kMaxServerConfigBytes));
  const YamlView view(root);
  for (const YamlNode& member : root.members) {
    const YamlView value = view[member.key];
    const Setting* setting = FindSetting(member.key);
    if (setting == nullptr) return value.Fail("unknown key");
    MONET_ASSIGN_OR_RETURN(const std::string text, TextOf(*setting, value));
    const absl::Status status = setting->set(options, text);
    if (!status.ok()) return value.Fail(Message(status));
  }
  return absl::OkStatus();
}

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app("Serves a Monet model over gRPC, with an expert mask for every request.",
               "monet-server");
  app.set_version_flag("--version", std::string("monet-server ") + MONET_VERSION);
  std::string config;
  std::map<std::string, std::string> values;
  std::map<std::string, bool> switches;
  for (const Setting& setting : Settings()) {
    if (setting.kind == Setting::Kind::kSwitch) {
      app.add_flag(FlagOf(setting), switches[setting.key], HelpText(setting));
    } else {
      app.add_option(FlagOf(setting), values[setting.key], HelpText(setting))
          ->option_text(setting.placeholder);
    }
  }
  app.add_option("--config", config, "YAML file with the same settings; flags win.")
      ->option_text("FILE");
  bool check = false;
  app.add_flag("--check", check,
               "Check configuration, model and policies as a start would, print a summary and exit "
               "with 0 or 2; listens nowhere.");
  app.footer(kFooter);

  CommandLine result;
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return CommandLine{CommandLine::Action::kPrintAndExit, app.help(), {}};
  } catch (const CLI::CallForVersion&) {
    return CommandLine{CommandLine::Action::kPrintAndExit, app.version() + "\n", {}};
  } catch (const CLI::ParseError& error) {
    return InvalidArgument("{}; see monet-server --help", error.what());
  }
  if (!config.empty()) MONET_RETURN_IF_ERROR(ApplyYamlFile(config, &result.options));
  for (const Setting& setting : Settings()) {
    const std::string flag = FlagOf(setting);
    if (app.count(flag) == 0) continue;
    std::string text = values[setting.key];
    if (setting.kind == Setting::Kind::kSwitch) text = switches[setting.key] ? "true" : "false";
    const absl::Status status = setting.set(&result.options, text);
    if (!status.ok()) return InvalidArgument("{} {}", flag, Message(status));
  }
  MONET_RETURN_IF_ERROR(CheckOptions(result.options));
  if (check) result.action = CommandLine::Action::kCheck;
  return result;
}

}  // namespace monet::server
