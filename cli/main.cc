// bin/monetctl.
#include "cli/commands.h"

int main(int argc, char** argv) { return monet::cli::Run(argc, argv); }
