#pragma once

#include <filesystem>

#include "spectrace/app/command_line.hpp"

namespace spectrace {

/// The subcommands besides run. Each returns the program's exit code and may throw InputError.
int command_plan(const CommandLine& line);
int command_check(const CommandLine& line);
int command_inspect(const CommandLine& line);
int command_tokenize(const CommandLine& line);
int command_diff(const CommandLine& line);
int command_describe(const CommandLine& line);
int command_families(const CommandLine& line);

/// The folder of a model that the command line names. @throws InputError (io) if there is none.
std::filesystem::path find_named_model(const std::string& target);

}  // namespace spectrace
