#include "spectrace/sweep/run_job.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/foreign_memory.hpp"
#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/core/text.hpp"
#include "spectrace/numerics/tensor_memory.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/results/summary.hpp"
#include "spectrace/sweep/compute_thread.hpp"
#include "spectrace/sweep/conductor.hpp"
#include "spectrace/sweep/device_choice.hpp"
#include "spectrace/sweep/folder_lock.hpp"
#include "spectrace/sweep/num_threads.hpp"
#include "spectrace/sweep/share.hpp"
#include "spectrace/sweep/totals.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {
namespace {

/// Tensors may take so much whatever the job says: with less, no model's first layer would fit.
constexpr std::int64_t kLeastTensorMemory = std::int64_t{256} << 20;

/// Files that a kill left half written: "<name>.part<digits>", where <name> is a file of this job. Nothing else goes.
void remove_leftovers(const Job& job) {
  std::set<std::string> names = {"summary.h5", "progress.json"};
  for (const auto& model : job.models) {
    names.insert(model.name + ".h5");
    names.insert(model.name + ".run.json");
  }
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(job.output, error)) {
    const std::string name = file.path().filename().string();
    const auto end = name.find_last_not_of("0123456789") + 1;
    if (end == name.size() || !name.substr(0, end).ends_with(".part") || !names.contains(name.substr(0, end - 5)))
      continue;
    std::error_code removal;
    std::filesystem::remove(file.path(), removal);
    if (removal) throw InputError(ErrorKind::io, "cannot remove '" + file.path().string() + "'", removal.message());
  }
}

/// Empty folders alone, at the end, when no rank makes anything in them, or has files of them open, any more. What is
/// not empty stays for the next start.
void remove_folder_of_journals(const Job& job) {
  const auto folder = job.output / "journal";
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) return;
  for (const auto& model : job.models) ::rmdir((folder / model.name).c_str());
  ::rmdir(folder.c_str());
}

/// Every rank reads the same bytes: root's.
Job share_job(const RunOptions& options, Communicator& communicator) {
  Job job;
  const std::string text = share_from_root(communicator, [&] {
    job = read_job(options.job_path, options.overrides);
    return communicator.size() > 1 ? resolve_job(job) : "";
  });
  if (!communicator.is_root()) job = parse_resolved_job(text);
  return job;
}

/// Root takes the output folder, which from here on is there. Collective.
std::unique_ptr<FolderLock> take_output_folder(const Job& job, Communicator& communicator) {
  std::unique_ptr<FolderLock> lock;
  share_from_root(communicator, [&] {
    create_folders(job.output / "logs");
    lock = std::make_unique<FolderLock>(job.output);
    remove_leftovers(job);
    return std::string();
  });
  return lock;
}

/// One line a host: who runs where, on which cores.
void log_ranks(Communicator& communicator, int threads, const Device& device) {
  const auto all = communicator.all_gather(
      fmt::format("{}\n{}\n{}", host_name(), number_of(threads, "thread"), allowed_cores_text()));
  if (!communicator.is_root()) return;
  for (std::size_t first = 0; first < all.size();) {
    std::size_t end = first + 1;
    while (end < all.size() && all[end] == all[first]) ++end;
    const auto host_end = all[first].find('\n'), threads_end = all[first].find('\n', host_end + 1);
    const std::string ranks =
        end - first == 1 ? fmt::format("rank {}", first) : fmt::format("ranks {}-{}", first, end - 1);
    log_info("{}: host {}, {}, cores {}, device {}", ranks, all[first].substr(0, host_end),
             all[first].substr(host_end + 1, threads_end - host_end - 1), all[first].substr(threads_end + 1),
             device.kind());
    first = end;
  }
}

/// A rank's part of a run, from the job to the threads that compute it.
struct Start {
  std::shared_ptr<RunContext> context = std::make_shared<RunContext>();
  std::unique_ptr<Compute> compute;
  std::unique_ptr<FolderLock> lock;  ///< root's
  std::unique_ptr<Reductions> reductions;
};

/// The threads that compute; without them on one rank, the run does not begin on any. Collective.
std::unique_ptr<Compute> start_computing(const std::shared_ptr<RunContext>& context, Communicator& communicator) {
  context->num_threads = choose_num_threads(context->job.compute.threads, communicator);
  std::unique_ptr<Compute> compute;
  on_every_rank(communicator, [&] { compute = std::make_unique<ComputeThread>(context); });
  return compute;
}

void limit_memory(RunContext& context, const Communicator& communicator) {
  context.memory_bytes = memory_limit_bytes(context.job, host_memory_bytes(), communicator.local_size());
  set_process_memory(context.memory_bytes);
  limit_tensor_memory(std::max(kLeastTensorMemory, context.memory_bytes - resident_memory_bytes()));
}

/// Collective.
Start begin_run(const RunOptions& options, Communicator& communicator) {
  Start start;
  RunContext& context = *start.context;
  context.job = share_job(options, communicator);
  return_freed_memory();  // a job as JSON is several times its prompts
  context.io = options.io;
  context.fresh = options.fresh;
  context.rank = communicator.rank();
  context.num_ranks = communicator.size();
  // A rank that lacks what the job asks for ends the run before anything is made.
  const ChosenDevice chosen = choose_device(context.job.compute.device, communicator);
  context.device = chosen.device;
  context.device_bytes = chosen.bytes;
  if (!chosen.device.is_host()) context.job.compute.device_kind = chosen.device.kind();
  start.compute = start_computing(start.context, communicator);
  start.lock = take_output_folder(context.job, communicator);
  on_every_rank(communicator, [&] { open_log_file(context.job.output / "logs", communicator.rank()); });
  limit_memory(context, communicator);
  start.reductions = make_reductions(options.reduce, communicator);
  return start;
}

void log_start(const RunContext& context, const Reductions& reductions, Communicator& communicator) {
  const Job& job = context.job;
  if (communicator.is_root())
    log_info("job '{}': {}, {}, {}, {:.1f} GiB for each{}", job.name, number_of(job.models.size(), "model"),
             number_of(job.prompt_sets.size(), "prompt set"), number_of(communicator.size(), "rank"),
             static_cast<double>(context.memory_bytes) / (1 << 30),
             communicator.size() > 1 ? fmt::format(", statistics reduced over {}", reductions.backend()) : "");
  log_ranks(communicator, context.num_threads, context.device);
}

/// Root's last words.
void say_end(const RunOptions& options, const Job& job, const SweepOutcome& outcome) {
  if (outcome.exit_code == kStopped)
    log_warning("stopped; what is finished is safe: run the same command again{} to go on",
                options.fresh ? " without --fresh" : "");
  if (outcome.rows.empty()) return;
  fmt::print("{}results: {}\n", summary_table(outcome.rows), job.output.string());
  std::fflush(stdout);
}

}  // namespace

RunEnd run_job(const RunOptions& options, Communicator& communicator, TimeLimit& limit) {
  const auto limit_step = [&](const char* what) {
    const double seconds = options.step_limit_s();
    limit.begin(seconds,
                fmt::format("{} has taken {:.0f} s on rank {}, process {} on {}: another rank does not answer. What is "
                            "finished is safe: run the same command again to go on. (--deadline sets the time.)",
                            what, seconds, communicator.rank(), ::getpid(), host_name()),
                kNothingReadOrWritten);
  };
  if (communicator.size() > 1) limit_step("the start of the run");
  const StopRequest stop(options.max_hours);
  Start start = begin_run(options, communicator);
  const RunContext& context = *start.context;
  log_start(context, *start.reductions, communicator);

  limit.end();  // from here on root watches over the ranks, and they over root
  const Stopwatch watch;
  const SweepOutcome outcome = conduct(*start.context, communicator, *start.reductions, stop,
                                       {.silence_s = options.deadline_s}, std::move(start.compute), start.lock.get());
  const double elapsed_s = watch.elapsed_s();
  if (communicator.size() > 1) limit_step("the end of the run");
  if (communicator.is_root()) remove_folder_of_journals(context.job);
  if (outcome.exit_code != kStopped && outcome.exit_code != kNothingReadOrWritten) {
    // The summary first: accounting for the run must not cost it.
    share_from_root(communicator, [&] {
      write_summary_file(context.job.output / "summary.h5", outcome.rows);
      return std::string();
    });
    log_totals(context, outcome.expected, elapsed_s, communicator);
  }
  if (communicator.is_root()) say_end(options, context.job, outcome);
  flush_log();
  return {.exit_code = outcome.exit_code, .abandoned = outcome.abandoned};
}

}  // namespace spectrace
