#include "spectrace/sweep/run_job.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <vector>

#include "spectrace/comm/launch.hpp"
#include "spectrace/core/file.hpp"
#include "spectrace/core/foreign_memory.hpp"
#include "spectrace/core/host_memory.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stage_times.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/numerics/product_rate.hpp"
#include "spectrace/numerics/tensor_memory.hpp"
#include "spectrace/plan/memory.hpp"
#include "spectrace/results/summary.hpp"
#include "spectrace/sweep/conductor.hpp"
#include "spectrace/sweep/device_choice.hpp"
#include "spectrace/sweep/folder_lock.hpp"
#include "spectrace/sweep/share.hpp"
#include "spectrace/work/run_info.hpp"

namespace spectrace {
namespace {

/// Tensors may take so much whatever the job says: with less, no model's first layer would fit.
constexpr std::int64_t kLeastTensorMemory = std::int64_t{256} << 20;
constexpr double kWorthMeasuring_s = 5;  // shorter runs are not accounted for: the measurement would show in them

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
  const auto all = communicator.all_gather(fmt::format("{}\n{}\n{}", host_name(), threads, allowed_cores_text()));
  if (!communicator.is_root()) return;
  for (std::size_t first = 0; first < all.size();) {
    std::size_t end = first + 1;
    while (end < all.size() && all[end] == all[first]) ++end;
    const auto host_end = all[first].find('\n'), threads_end = all[first].find('\n', host_end + 1);
    const std::string ranks =
        end - first == 1 ? fmt::format("rank {}", first) : fmt::format("ranks {}-{}", first, end - 1);
    const std::string count = all[first].substr(host_end + 1, threads_end - host_end - 1);
    log_info("{}: host {}, {} {}, cores {}, device {}", ranks, all[first].substr(0, host_end), count,
             count == "1" ? "thread" : "threads", all[first].substr(threads_end + 1), device.kind());
    first = end;
  }
}

/// What the stages took, of all ranks: a line for each that took time. Collective.
void log_stages(const RunContext& context, double busy_s, double elapsed_s, Communicator& communicator,
                Reducer& reducer) {
  const StageTimes mine = stage_times();
  std::vector<std::int64_t> sums;
  for (std::size_t i = 0; i < kNumStages; ++i) {
    sums.push_back(static_cast<std::int64_t>(mine.seconds[i] * 1e6));
    sums.push_back(static_cast<std::int64_t>(mine.flops[i] / 1e6));
    sums.push_back(static_cast<std::int64_t>(mine.bytes[i]));
  }
  // All ranks at once, so that they share what they shared during the run.
  std::int64_t peaks[] = {0, 0};
  if (elapsed_s >= kWorthMeasuring_s) {
    set_compute_threads(context.num_threads);  // the threads that computed have ended
    peaks[0] = static_cast<std::int64_t>(product_rate(ComputeType::float32) / 1e6);
    peaks[1] = static_cast<std::int64_t>(product_rate(ComputeType::float64) / 1e6);
    set_compute_threads(1);
  }
  reducer.sum(sums);
  reducer.sum(peaks);
  if (!communicator.is_root() || elapsed_s < kWorthMeasuring_s) return;
  const double ranks = communicator.size(), all_s = elapsed_s * ranks;
  log_info("of the ranks' time  share   seconds   Gflop/s  of peak    GiB read");
  double seen_s = 0;
  const auto line = [&](const char* what, double seconds, double mflop, double bytes, double peak) {
    seen_s += seconds;
    const double rate = seconds > 0 ? mflop / 1e3 / seconds : 0;
    log_info("{:<18} {:5.1f} % {:9.2f} {:>9} {:>8} {:>11}", what, 100 * seconds / all_s, seconds,
             mflop > 0 ? fmt::format("{:.1f}", rate) : "",
             mflop > 0 && peak > 0 ? fmt::format("{:.0f} %", 100 * rate / peak) : "",
             bytes > 0 ? fmt::format("{:.2f}", bytes / (1 << 30)) : "");
  };
  for (std::size_t i = 0; i < kNumStages; ++i) {
    const auto stage = static_cast<Stage>(i);
    const bool is_forward = stage == Stage::forward || stage == Stage::embedding;
    const double peak = static_cast<double>(peaks[is_forward ? 0 : 1]) / 1e3 / ranks;
    if (sums[3 * i] > 0)
      line(name(stage), static_cast<double>(sums[3 * i]) / 1e6, static_cast<double>(sums[3 * i + 1]),
           static_cast<double>(sums[3 * i + 2]), peak);
  }
  line("other work", std::max(0.0, busy_s - seen_s), 0, 0, 0);
  line("waiting", std::max(0.0, all_s - seen_s), 0, 0, 0);
  log_info("peak: products of matrices, {:.1f} Gflop/s in float32, {:.1f} in float64, a rank",
           static_cast<double>(peaks[0]) / 1e3 / ranks, static_cast<double>(peaks[1]) / 1e3 / ranks);
}

/// What the sweep took, of all ranks. Collective.
void log_totals(const RunContext& context, const Expectation& expected, double elapsed_s, Communicator& communicator,
                Reducer& reducer) {
  std::int64_t sums[] = {static_cast<std::int64_t>(context.busy_s.load() * 1e3),
                         static_cast<std::int64_t>(context.flops_done.load() / 1e6),
                         static_cast<std::int64_t>(context.bytes_read.load())};
  double peak[] = {static_cast<double>(peak_memory_bytes())};
  reducer.sum(sums);
  reducer.max(peak);
  const double busy_s = static_cast<double>(sums[0]) * 1e-3, gib = 1 << 30;
  log_stages(context, busy_s, elapsed_s, communicator, reducer);
  if (!communicator.is_root()) return;
  log_info(
      "{:.1f} s, {:.0f} % of the ranks' time at work, {:.3g} Gflop/s a rank, {:.2f} GiB read, peak memory of a rank "
      "{:.2f} GiB",
      elapsed_s, std::min(100.0, 100 * busy_s / (elapsed_s * communicator.size())),
      busy_s > 0 ? static_cast<double>(sums[1]) * 1e-3 / busy_s : 0.0, static_cast<double>(sums[2]) / gib,
      peak[0] / gib);
  // Below that there is nothing to learn from it.
  if (expected.busy_s <= 0 || busy_s < 1) return;
  log_info(
      "expected were {:.1f} s of work, it took {:.1f} ({:+.0f} %); {:.2f} GiB, it took {:.2f} ({:+.0f} %){}",
      expected.busy_s, busy_s, 100 * (busy_s / expected.busy_s - 1), expected.peak_bytes / gib, peak[0] / gib,
      100 * (peak[0] / expected.peak_bytes - 1),
      expected.is_calibrated ? "" : "; times are of typical cores, spectrace plan --calibrate measures this machine");
}

std::string counted(std::size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
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
  const auto context = std::make_shared<RunContext>();
  context->job = share_job(options, communicator);
  return_freed_memory();  // a job as JSON is several times its prompts
  // A rank that lacks what the job asks for ends the run before anything is made.
  const ChosenDevice chosen = choose_device(context->job.compute.device, communicator);
  const auto lock = take_output_folder(context->job, communicator);
  context->device = chosen.device;
  context->device_bytes = chosen.bytes;
  if (!chosen.device.is_host()) context->job.compute.device_kind = chosen.device.kind();
  const Job& job = context->job;
  on_every_rank(communicator, [&] { open_log_file(job.output / "logs", communicator.rank()); });
  context->io = options.io;
  context->fresh = options.fresh;
  context->rank = communicator.rank();
  context->num_ranks = communicator.size();
  context->num_threads = choose_num_threads(job.compute.threads, communicator);
  context->memory_bytes = memory_limit_bytes(job, host_memory_bytes(), communicator.local_size());
  set_process_memory(context->memory_bytes);
  limit_tensor_memory(std::max(kLeastTensorMemory, context->memory_bytes - resident_memory_bytes()));
  const auto reducer = make_reducer(options.reduce, communicator);
  if (communicator.is_root())
    log_info("job '{}': {}, {}, {}, {:.1f} GiB for each, totals over {}", job.name, counted(job.models.size(), "model"),
             counted(job.prompt_sets.size(), "prompt set"),
             counted(static_cast<std::size_t>(communicator.size()), "rank"),
             static_cast<double>(context->memory_bytes) / (1 << 30), reducer->backend());
  log_ranks(communicator, context->num_threads, context->device);

  limit.end();  // from here on root watches over the ranks, and they over root
  const Stopwatch watch;
  const SweepOutcome outcome = conduct(context, communicator, stop, {options.deadline_s, 40}, lock.get());
  const double elapsed_s = watch.elapsed_s();
  if (communicator.size() > 1) limit_step("the end of the run");
  if (outcome.exit_code != kStopped && outcome.exit_code != kNothingReadOrWritten)
    log_totals(*context, outcome.expected, elapsed_s, communicator, *reducer);
  if (communicator.is_root()) {
    remove_folder_of_journals(job);
    if (outcome.exit_code == kStopped)
      log_warning("stopped; what is finished is safe: run the same command again{} to go on",
                  options.fresh ? " without --fresh" : "");
    else if (outcome.exit_code != kNothingReadOrWritten)
      write_summary_file(job.output / "summary.h5", outcome.rows);
  }
  if (communicator.is_root() && !outcome.rows.empty()) {
    fmt::print("{}results: {}\n", summary_table(outcome.rows), job.output.string());
    std::fflush(stdout);
  }
  flush_log();
  return {outcome.exit_code, outcome.abandoned};
}

}  // namespace spectrace
