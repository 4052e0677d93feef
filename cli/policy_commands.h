// The subcommands of monetctl policy, one file each, as in commands.h.
#pragma once

#include "cli/commands.h"

namespace monet::cli {

Command AddPolicyBuild(CLI::App* policy);
Command AddPolicyCollect(CLI::App* policy);
Command AddPolicyDiff(CLI::App* policy);
Command AddPolicyVerify(CLI::App* policy);
Command AddPolicyPush(CLI::App* policy);

}  // namespace monet::cli
