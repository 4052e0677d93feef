// monetctl key new: an API key and its entry for keys.yaml.
#include <memory>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/options.h"
#include "runtime/policy/policy.h"
#include "runtime/tenant/key_file_writer.h"

namespace monet::cli {
namespace {

constexpr char kExample[] =
    "Examples:\n"
    "  monetctl key new --tenant acme\n"
    "  KEY=$(monetctl key new --tenant acme --id laptop --append keys.yaml)\n\n"
    "Prints the key, 256 random bits, this once; keys.yaml gets its SHA-256 hash only. To rotate "
    "a\n"
    "key: append a new one, let callers change over, take the old entry out. The server reads the\n"
    "file again by itself.";

struct KeyArguments {
  explicit KeyArguments(CLI::App* app) {
    tenant = AddValue(app, "--tenant", "NAME", "Whose key it is, as in tenants.yaml")->required();
    id = AddValue(app, "--id", "TEXT", "Tells keys apart in the file, e.g. where it is used");
    not_after = AddValue(app, "--not-after", "TIME",
                         "When it ends, UTC: 2027-01-31 or 2027-01-31T12:00:00Z. Default: never");
    append = AddValue(app, "--append", "FILE",
                      "Append the entry to this keys.yaml, made if there is none, and print the\n"
                      "key alone. Default: print both");
  }

  CLI::Option *tenant, *id, *not_after, *append;
};

absl::StatusOr<KeyEntry> ReadEntry(const KeyArguments& arguments, const std::string& key) {
  KeyEntry entry;
  MONET_ASSIGN_OR_RETURN(const auto tenant, TextOf(arguments.tenant));
  MONET_ASSIGN_OR_RETURN(const auto id, TextOf(arguments.id));
  MONET_ASSIGN_OR_RETURN(const auto not_after, TextOf(arguments.not_after));
  entry.tenant = *tenant;
  if (!IsPolicyName(entry.tenant)) {
    return InvalidArgument(
        "--tenant is '{}', must be lower-case letters, digits and inner hyphens, at most 63",
        entry.tenant);
  }
  entry.id = id.value_or("");
  if (!IsKeyId(entry.id)) {
    return InvalidArgument(
        "--id must be at most 63 visible ASCII characters without quotes and backslashes");
  }
  if (not_after) {
    entry.not_after = ParseUtcTime(*not_after);
    if (!entry.not_after) {
      return InvalidArgument("--not-after is '{}', must be 2027-01-31 or 2027-01-31T12:00:00Z",
                             *not_after);
    }
  }
  entry.hash = HashKey(key);
  return entry;
}

absl::Status RunNew(const KeyArguments& arguments, const Session& session) {
  MONET_ASSIGN_OR_RETURN(const std::string key, NewKey());
  MONET_ASSIGN_OR_RETURN(const KeyEntry entry, ReadEntry(arguments, key));
  MONET_ASSIGN_OR_RETURN(const auto append, TextOf(arguments.append));
  if (!append) {
    return session.console->Write(
        fmt::format("{}\n\n# for the list in keys.yaml\n{}", key, FormatKeyEntry(entry)));
  }
  const absl::Status status = AppendKeyEntry(*append, entry);
  if (!status.ok()) return InvalidArgument("{}: {}", *append, Message(status));
  return session.console->Write(key + "\n");
}

}  // namespace

Command AddKey(CLI::App* root) {
  CLI::App* app = root->add_subcommand("key", "Make API keys");
  app->require_subcommand(1);
  CLI::App* make = app->add_subcommand("new", "Make a key of a tenant");
  make->footer(kExample);
  auto arguments = std::make_shared<KeyArguments>(make);
  return {app, [arguments](const Session& session) { return RunNew(*arguments, session); }};
}

}  // namespace monet::cli
