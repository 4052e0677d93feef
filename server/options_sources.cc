// Where options come from: the command line (CLI11) and the YAML file (yaml-cpp).
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <map>
#include <set>
#include <utility>

#include "runtime/limits.h"
#include "server/options.h"

namespace monet::server {
namespace {

const Setting* FindSetting(std::string_view key) {
  for (const Setting& setting : Settings()) {
    if (key == setting.key) return &setting;
  }
  return nullptr;
}

absl::Status ApplyYamlEntry(const YAML::Node& key, const YAML::Node& value,
                            std::set<std::string>* seen, ServerOptions* options) {
  const int line = key.Mark().line + 1;
  if (!key.IsScalar()) return InvalidArgument("line {}: keys must be plain text", line);
  const Setting* setting = FindSetting(key.Scalar());
  if (setting == nullptr) return InvalidArgument("line {}: unknown key \"{}\"", line, key.Scalar());
  if (!seen->insert(key.Scalar()).second) {
    return InvalidArgument("line {}: key \"{}\" is given twice", line, key.Scalar());
  }
  if (!value.IsScalar()) {
    return InvalidArgument("line {}: \"{}\" needs one plain value", line, key.Scalar());
  }
  const absl::Status status = setting->set(options, value.Scalar());
  if (!status.ok()) return InvalidArgument("line {}: {}", line, Message(status));
  return absl::OkStatus();
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
    "Unknown and repeated keys are errors. Flags win over the file.\n"
    "Exit codes: 0 drained after SIGTERM or SIGINT or checked without an error, 2 bad options,\n"
    "model or policies, or an address in use, 128 + signal when a second signal cut the drain "
    "short.";

}  // namespace

absl::Status ApplyYaml(std::string_view yaml, ServerOptions* options) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(yaml));
    if (documents.empty() || documents[0].IsNull()) return absl::OkStatus();
    if (documents.size() > 1) return InvalidArgument("has more than one YAML document");
    if (!documents[0].IsMap()) return InvalidArgument("line 1: expected a map of settings");
    std::set<std::string> seen;
    for (const auto& entry : documents[0]) {
      MONET_RETURN_IF_ERROR(ApplyYamlEntry(entry.first, entry.second, &seen, options));
    }
    return absl::OkStatus();
  } catch (const YAML::Exception& error) {
    return InvalidArgument("line {}: {}", error.mark.line + 1, error.msg);
  }
}

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app("Serves a Monet model over gRPC, with an expert mask for every request.",
               "monet-server");
  app.set_version_flag("--version", std::string("monet-server ") + MONET_VERSION);
  std::string config;
  std::map<std::string, std::string> values;
  std::map<std::string, bool> switches;
  for (const Setting& setting : Settings()) {
    if (setting.value == nullptr) {
      app.add_flag(FlagOf(setting), switches[setting.key], setting.description);
    } else {
      app.add_option(FlagOf(setting), values[setting.key], setting.description)
          ->option_text(setting.value);
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
    const std::string text =
        setting.value == nullptr ? (switches[setting.key] ? "true" : "false") : values[setting.key];
    const absl::Status status = setting.set(&result.options, text);
    if (!status.ok()) return InvalidArgument("{}: {}", flag, Message(status));
  }
  MONET_RETURN_IF_ERROR(CheckOptions(result.options));
  if (check) result.action = CommandLine::Action::kCheck;
  return result;
}

}  // namespace monet::server
