#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spectrace/sweep/run_job.hpp"

namespace spectrace {

/// What the command line asks for. Only the fields of the chosen subcommand are set.
struct CommandLine {
  std::string subcommand;
  std::string log_level = "info";
  RunOptions run;  ///< its overrides are those of plan and check too
  // plan
  int num_ranks = 1, ranks_per_node = 0, gpus_per_node = 0;
  bool as_json = false, calibrate = false;
  // check, plan, inspect, tokenize: the job or model; describe: an analysis or quantity
  std::string target;
  // tokenize
  std::optional<std::string> text, file;
  // diff
  std::string diff_a, diff_b;
  double rtol = 0, atol = 0;
  // completion
  std::string shell;
};

/// The program's commands and options, bound to `line`. The completion scripts are made from it too.
std::unique_ptr<CLI::App> make_command_line(CommandLine& line);

/// A completion script for bash, zsh or fish: subcommands, options, the values of options that have a fixed set, and
/// files where files are meant.
std::string completion_script(const CLI::App& app, const std::string& shell);

/// The text of --version.
std::string version_text();

}  // namespace spectrace
