#include "spectrace/app/command_line.hpp"

#include <fmt/format.h>

#include "spectrace/run/run_info.hpp"

namespace spectrace {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 all done; 1 some models or prompts failed, the rest is there; 2 wrong usage or job; 3 nothing could "
    "be\n"
    "read or written; 75 stopped by a signal or time limit, run the same command again to go on.\n"
    "Manual: docs/manual.md";

void add_run(CLI::App& app, CommandLine& line) {
  CLI::App* run = app.add_subcommand("run", "Run a job, alone or under mpirun or srun; goes on from what is done");
  run->add_option("JOB", line.run.job_path, "Job file (JSON)")->required();
  run->add_option("-o,--output", line.run.overrides.output, "Results folder, instead of the job's");
  run->add_flag("--fresh", line.run.fresh, "Compute everything anew, whatever is there");
  run->add_option_function<std::string>(
         "--reduce", [&line](const std::string& text) { line.run.reduce = parse_reduce_backend(text); },
         "What statistics are reduced over (auto)")
      ->check(CLI::IsMember({"auto", "mpi", "nccl"}));
  run->add_option("--device", line.run.overrides.device, "Device, instead of the job's")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  run->add_option("--dtype", line.run.overrides.dtype, "Type of the forward pass, instead of the job's")
      ->check(CLI::IsMember({"float32", "float64"}));
  run->add_option("--max-memory", line.run.overrides.max_memory_gib, "Memory of a rank, GiB, instead of the job's")
      ->check(CLI::PositiveNumber);
  run->add_option("--max-hours", line.run.max_hours, "Stop after so many hours with everything finished kept (exit 75)")
      ->check(CLI::PositiveNumber);
  run->add_option_function<std::string>(
         "--io", [&line](const std::string& text) { line.run.io = parse_io_mode(text); },
         "How checkpoints are read (auto: by the file system)")
      ->check(CLI::IsMember({"auto", "mmap", "read"}));
}

void add_others(CLI::App& app, CommandLine& line) {
  CLI::App* plan =
      app.add_subcommand("plan", "Dry run: units, who gets what, memory, bytes, flops; for any number of ranks");
  plan->add_option("JOB", line.target, "Job file (JSON)")->required();
  plan->add_option("--ranks", line.num_ranks, "Ranks to plan for (1)")->check(CLI::PositiveNumber);
  plan->add_option("--ranks-per-node", line.ranks_per_node, "Ranks on a node (all)")->check(CLI::PositiveNumber);
  plan->add_option("--gpus-per-node", line.gpus_per_node, "GPUs on a node (0)")->check(CLI::NonNegativeNumber);
  plan->add_flag("--json", line.as_json, "Print JSON");

  CLI::App* check =
      app.add_subcommand("check", "Validate a job, its models, tokenizers and prompts; reads headers only");
  check->add_option("JOB", line.target, "Job file (JSON)")->required();

  CLI::App* inspect = app.add_subcommand("inspect", "Describe a model: architecture, sizes, tensors, memory needed");
  inspect->add_option("MODEL", line.target, "Model folder or hub id")->required();
  inspect->add_flag("--json", line.as_json, "Print JSON");

  CLI::App* tokenize = app.add_subcommand("tokenize", "Print a line of token ids for each input line");
  tokenize->add_option("MODEL", line.target, "Model folder or hub id")->required();
  auto* text = tokenize->add_option("TEXT", line.text, "Text (default: standard input)");
  tokenize->add_option("--file", line.file, "Read lines of this file")->excludes(text);

  CLI::App* diff = app.add_subcommand("diff", "Compare two results, folders or files; exit 1 if anything differs");
  diff->add_option("A", line.diff_a, "Results folder or file")->required();
  diff->add_option("B", line.diff_b, "Results folder or file")->required();
  diff->add_option("--rtol", line.rtol, "Relative tolerance (0)")->check(CLI::NonNegativeNumber);
  diff->add_option("--atol", line.atol, "Absolute tolerance (0)")->check(CLI::NonNegativeNumber);

  CLI::App* completion = app.add_subcommand("completion", "Print a completion script for a shell");
  completion->add_option("SHELL", line.shell, "Shell")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

}  // namespace

std::unique_ptr<CLI::App> make_command_line(CommandLine& line) {
  auto app = std::make_unique<CLI::App>(
      "spectrace measures transformer language models from the inside, in full precision: spectra of their weights,\n"
      "attention, sheaf Laplacians and the residual stream, into HDF5.",
      "spectrace");
  app->require_subcommand(1);
  app->footer(kFooter);
  app->set_version_flag(
      "--version", [] { return version_text(); }, "Version, and those of the libraries");
  app->add_option("--log-level", line.log_level, "What goes to the terminal (info)")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}));
  app->fallthrough();
  add_run(*app, line);
  add_others(*app, line);
  return app;
}

std::string version_text() {
  const Json all = versions();
  std::string text = fmt::format("spectrace {}\n", all["spectrace"].get<std::string>());
  for (const char* part : {"build", "libtorch", "mpi", "nccl", "hdf5"})
    text += fmt::format("  {:<9} {}\n", part, all[part].get<std::string>());
  text.pop_back();
  return text;
}

}  // namespace spectrace
