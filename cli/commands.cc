#include "cli/commands.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/exit_status.h"

namespace monet::cli {
namespace {

constexpr char kDescription[] =
    "monetctl: asks a monet-server for text, scores, policies and its model, and runs a "
    "checkpoint\n"
    "offline. Every call may name policies, which remove experts for that call alone.";

constexpr char kFooter[] =
    "'monetctl COMMAND --help' describes a command with an example.\n\n"
    "Results go to standard output, errors to standard error as 'monetctl: CODE: message'.\n"
    "Exit codes: 0 done, 1 the call failed, 2 bad usage or local input, 130 interrupted.";

// The arguments in CLI11's order, last one first. "--name=" becomes two words: CLI11 would take the
// next argument for the value instead of an empty one.
std::vector<std::string> Words(int argc, char** argv) {
  std::vector<std::string> words;
  bool options_end = false;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    options_end = options_end || word == "--";
    const bool is_empty_value =
        !options_end && word.starts_with("--") && word.find('=') == word.size() - 1;
    if (is_empty_value) word.pop_back();
    words.push_back(word);
    if (is_empty_value) words.emplace_back();
  }
  std::reverse(words.begin(), words.end());
  return words;
}

absl::Status Parse(CLI::App* root, int argc, char** argv, std::string* help) {
  // CLI11 would say that a subcommand is required.
  const auto is_named = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  const auto known = root->get_subcommands(/*filter=*/nullptr);
  if (argc > 1 && argv[1][0] != '-' && std::none_of(known.begin(), known.end(), is_named)) {
    return InvalidArgument("there is no command '{}'; see monetctl --help", argv[1]);
  }
  try {
    root->parse(Words(argc, argv));
  } catch (const CLI::CallForVersion&) {
    *help = root->version() + "\n";
  } catch (const CLI::Success&) {
    *help = root->help();
  } catch (const CLI::ParseError& error) {
    std::string program = "monetctl";
    for (const CLI::App* command : root->get_subcommands()) program += " " + command->get_name();
    return InvalidArgument("{}; see {} --help", error.what(), program);
  }
  return absl::OkStatus();
}

absl::Status Execute(int argc, char** argv, const Session& session) {
  CLI::App root(kDescription, "monetctl");
  root.set_version_flag("--version", "monetctl " MONET_VERSION, "Print the version and exit");
  root.set_help_flag("-h,--help", "Print this help and exit");
  root.footer(kFooter);
  root.get_formatter()->column_width(26);
  root.require_subcommand(1);
  const std::vector<Command> commands = {
      AddGenerate(&root), AddScore(&root),      AddPolicies(&root), AddModel(&root),
      AddTokenize(&root), AddDetokenize(&root), AddExplain(&root),  AddForward(&root),
      AddHealth(&root),   AddKey(&root),        AddTenants(&root),  AddAdmin(&root),
      AddPlan(&root),     AddPolicy(&root)};
  std::string help;
  MONET_RETURN_IF_ERROR(Parse(&root, argc, argv, &help));
  if (!help.empty()) return session.console->Write(help);
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run(session);
  }
  return InvalidArgument("no command given; see monetctl --help");
}

}  // namespace

int Run(int argc, char** argv) {
  // What gRPC would log comes back as an error, and that is one line.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  Interrupts interrupts;
  Console console;
  const absl::Status status = Execute(argc, argv, Session{&console, &interrupts});
  console.PrintError(ErrorLine(status));
  return ExitCode(status);
}

}  // namespace monet::cli
