#pragma once

#include "spectrace/app/command_line.hpp"

namespace spectrace {

/// The subcommands besides run. Each returns the program's exit code and may throw InputError.
int command_plan(const CommandLine& line);
int command_check(const CommandLine& line);
int command_inspect(const CommandLine& line);
int command_tokenize(const CommandLine& line);
int command_diff(const CommandLine& line);

}  // namespace spectrace
