// monetctl policy: works on policy files.
#include <vector>

#include "cli/policy_commands.h"

namespace monet::cli {

Command AddPolicy(CLI::App* root) {
  CLI::App* app = root->add_subcommand(
      "policy", "Measure experts; build, compare, verify and publish policies");
  app->require_subcommand(1);
  const std::vector<Command> commands = {AddPolicyCollect(app), AddPolicyBuild(app),
                                         AddPolicyDiff(app), AddPolicyVerify(app),
                                         AddPolicyPush(app)};
  return {app, [commands](const Session& session) {
            for (const Command& command : commands) {
              if (command.app->parsed()) return command.run(session);
            }
            return InvalidArgument("no command given; see monetctl policy --help");
          }};
}

}  // namespace monet::cli
