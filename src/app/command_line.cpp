#include "spectrace/app/command_line.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "spectrace/work/run_info.hpp"

namespace spectrace {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 all done; 1 some models or prompts failed, the rest is there; 2 wrong usage or job; 3 nothing could "
    "be\n"
    "read or written; 75 stopped by a signal or time limit, run the same command again to go on.\n"
    "Manual: docs/manual.md";

/// A finite number for which `holds` is true; CLI11's own ranges print limits of 309 digits and let nan through.
template <typename F>
CLI::Validator number_that(const char* must_be, F holds) {
  return CLI::Validator(
      [=](std::string& text) {
        char* end = nullptr;
        const double value = std::strtod(text.c_str(), &end);
        const bool is_number = !text.empty() && *end == '\0' && std::isfinite(value);
        return is_number && holds(value) ? std::string() : fmt::format("is '{}', must be {}", text, must_be);
      },
      "");
}

CLI::Validator positive() {
  return number_that("a number more than 0", [](double value) { return value > 0; });
}
CLI::Validator not_negative() {
  return number_that("a number, 0 or more", [](double value) { return value >= 0; });
}
CLI::Validator count_from(int least) {
  return number_that(least == 0 ? "a whole number, 0 or more" : "a whole number, 1 or more",
                     [=](double value) { return value >= least && value <= 1e9 && value == std::floor(value); });
}
CLI::Validator not_empty() {
  return CLI::Validator([](std::string& text) { return text.empty() ? "must not be empty" : std::string(); }, "");
}
CLI::Validator count_or_auto() {
  return CLI::Validator(
      [](std::string& text) {
        const bool is_plain =
            text.find_first_not_of("0123456789") == text.npos;  // not "1e3" or "0x10", which stoi cuts
        if (text == "auto" || (is_plain && count_from(1)(text).empty())) return std::string();
        return fmt::format("is '{}', must be 'auto' or a whole number, 1 or more", text);
      },
      "");
}

/// JOB and the options that beat it, the same for all that read a job.
void add_job(CLI::App& command, std::string& job, JobOverrides& overrides) {
  command.add_option("JOB", job, "Job file (JSON)")->required()->type_name("FILE");
  command.add_option("-o,--output", overrides.output, "Results folder, instead of the job's")
      ->check(not_empty())
      ->type_name("DIR");
  command.add_option("--model", overrides.models, "Only this model of the job; may be given more than once")
      ->allow_extra_args(false)
      ->type_name("NAME");
  command.add_option("--device", overrides.device, "Device, instead of the job's")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command.add_option("--dtype", overrides.dtype, "Type of the forward pass, instead of the job's")
      ->check(CLI::IsMember({"float32", "float64"}));
  command.add_option("--max-memory", overrides.max_memory_gib, "Memory of a rank, instead of the job's")
      ->check(positive())
      ->type_name("GIB");
  command.add_option("--threads", overrides.threads, "Threads a rank, instead of the job's")
      ->check(count_from(1))
      ->type_name("N");
  command
      .add_option_function<std::string>(
          "--stages",
          [&overrides](const std::string& text) { overrides.stages = text == "auto" ? 0 : std::stoi(text); },
          "Ranks that share one model's layers, instead of the job's")
      ->check(count_or_auto())
      ->type_name("N|auto");
}

void add_run(CLI::App& app, CommandLine& line) {
  CLI::App* run = app.add_subcommand("run", "Run a job, alone or under mpirun or srun; goes on from what is done");
  add_job(*run, line.target, line.run.overrides);
  run->add_flag("--fresh", line.run.fresh, "Compute everything anew, whatever is there");
  run->add_option_function<std::string>(
         "--reduce", [&line](const std::string& text) { line.run.reduce = parse_reduce_backend(text); },
         "What adds statistics up over the ranks (auto: NCCL if each has a GPU of its own)")
      ->check(CLI::IsMember({"auto", "mpi", "nccl"}));
  run->add_option("--max-hours", line.run.max_hours, "Stop after so many hours with everything finished kept (exit 75)")
      ->check(positive())
      ->type_name("H");
  run->add_option("--deadline", line.run.deadline_s,
                  "End the run when a rank has given no sign of life for so long (45)")
      ->check(positive())
      ->type_name("SECONDS");
  run->add_option_function<std::string>(
         "--io", [&line](const std::string& text) { line.run.io = parse_io_mode(text); },
         "How checkpoints are read (auto: read, not mapped)")
      ->check(CLI::IsMember({"auto", "mmap", "read"}));
}

void add_others(CLI::App& app, CommandLine& line) {
  CLI::App* plan =
      app.add_subcommand("plan", "Dry run: units, who gets what, memory, bytes, flops; for any number of ranks");
  add_job(*plan, line.target, line.run.overrides);
  plan->add_option("--ranks", line.num_ranks, "Ranks to plan for (1)")->check(count_from(1))->type_name("N");
  plan->add_option("--ranks-per-node", line.ranks_per_node, "Ranks on a node (all)")
      ->check(count_from(1))
      ->type_name("M");
  plan->add_option("--gpus-per-node", line.gpus_per_node, "GPUs on a node (0)")->check(count_from(0))->type_name("G");
  plan->add_flag(
      "--calibrate", line.calibrate,
      "Measure how fast this machine works on the job's models (seconds to a minute each), for this and later "
      "plans and runs");
  plan->add_flag("--json", line.as_json, "Print JSON");

  CLI::App* check =
      app.add_subcommand("check", "Validate a job, its models, tokenizers and prompts; reads headers only");
  add_job(*check, line.target, line.run.overrides);

  CLI::App* inspect = app.add_subcommand("inspect", "Describe a model: architecture, sizes, tensors, memory needed");
  inspect->add_option("MODEL", line.target, "Model folder or hub id (id@revision)")->required()->type_name("DIR");
  inspect->add_flag("--json", line.as_json, "Print JSON");

  CLI::App* tokenize = app.add_subcommand("tokenize", "Print a line of token ids for each input line");
  tokenize->add_option("MODEL", line.target, "Model folder or hub id (id@revision)")->required()->type_name("DIR");
  auto* text = tokenize->add_option("TEXT", line.text, "Text (default: standard input)");
  tokenize->add_option("--file", line.file, "Read lines of this file")->excludes(text)->type_name("FILE");

  CLI::App* diff = app.add_subcommand("diff", "Compare two results, folders or files; exit 1 if anything differs");
  diff->add_option("A", line.diff_a, "Results folder or file")->required()->type_name("PATH");
  diff->add_option("B", line.diff_b, "Results folder or file")->required()->type_name("PATH");
  diff->add_option("--rtol", line.rtol, "Relative tolerance (0)")->check(not_negative())->type_name("X");
  diff->add_option("--atol", line.atol, "Absolute tolerance (0)")->check(not_negative())->type_name("X");

  diff->footer(
      "Exit codes: 0 no differences; 1 something differs; 2 wrong usage; 3 something could not be read.\n"
      "Manual: docs/manual.md");

  CLI::App* describe =
      app.add_subcommand("describe", "Say what analyses and datasets are: dimensions, units, formula, source");
  describe->add_option("NAME", line.target, "An analysis, or a dataset or column of the results (default: all)")
      ->type_name("NAME");
  describe->add_flag("--json", line.as_json, "Print JSON");

  CLI::App* families =
      app.add_subcommand("families", "List the families of models: model type, class, what is their text part");
  families->add_flag("--json", line.as_json, "Print JSON");

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
  for (const char* part : {"build", "libtorch", "mpi", "nccl", "hdf5", "cuda"})
    text += fmt::format("  {:<9} {}\n", part, all[part].get<std::string>());
  text.pop_back();
  return text;
}

}  // namespace spectrace
