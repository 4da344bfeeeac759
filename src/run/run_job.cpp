#include "spectrace/run/run_job.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "spectrace/core/file.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/core/stopwatch.hpp"
#include "spectrace/run/model_run.hpp"
#include "spectrace/run/preparation.hpp"
#include "spectrace/run/share.hpp"
#include "spectrace/run/summary.hpp"

namespace spectrace {
namespace {

int exit_code_of(const std::vector<ModelOutcome>& outcomes) {
  const auto any = [&](ModelStatus status) {
    return std::any_of(outcomes.begin(), outcomes.end(), [&](const auto& o) { return o.status == status; });
  };
  if (any(ModelStatus::stopped)) return kStopped;
  if (any(ModelStatus::mismatch)) return kWrongUsage;
  if (any(ModelStatus::failed) || any(ModelStatus::partial)) return kSomeFailed;
  return kAllDone;
}

/// Every rank reads the same bytes: root's.
Job share_job(const RunOptions& options, Communicator& communicator) {
  std::optional<Job> on_root;
  const std::string text = share_from_root(communicator, [&] {
    on_root = read_job(options.job_path, options.overrides);
    require_supported(*on_root);
    create_folders(on_root->output / "logs");
    remove_leftovers(on_root->output, "");
    return resolve_job(*on_root);
  });
  return parse_resolved_job(text);
}

void report_outcome(const ModelEntry& entry, const ModelOutcome& outcome) {
  if (outcome.was_there)
    log_info("{}: results are there", entry.name);
  else if (outcome.status == ModelStatus::ok)
    log_info("{}: done in {:.1f} s", entry.name, outcome.elapsed_s);
  else if (outcome.status != ModelStatus::stopped)
    log_error("{}: {}: {}", entry.name, name(outcome.status), outcome.error);
}

/// Journals of models that are through; the folder goes with the last of them.
void remove_finished_journals(const RunContext& context, const std::vector<ModelOutcome>& outcomes) {
  for (std::size_t m = 0; m < outcomes.size(); ++m)
    if (outcomes[m].status != ModelStatus::mismatch) drop_journal(context, context.job.models[m]);
  std::error_code not_empty;
  std::filesystem::remove(context.job.output / "journal", not_empty);
}

}  // namespace

int run_job(const RunOptions& options, Communicator& communicator) {
  const StopRequest stop(options.max_hours);
  const Job job = share_job(options, communicator);
  open_log_file(job.output / "logs", communicator.rank());
  const int threads = choose_num_threads(job.compute.threads, communicator);
  set_compute_threads(threads);
  const auto reducer = make_reducer(options.reduce, communicator);
  Progress progress(communicator, job.output / "progress.json", job.models.size());
  const RunContext context{job, options.io, options.fresh, threads, communicator, *reducer, stop, progress};
  if (communicator.is_root())
    log_info("job '{}': {} models, {} prompt sets, {} ranks of {} threads, reduced over {}", job.name,
             job.models.size(), job.prompt_sets.size(), communicator.size(), threads, reducer->backend());

  std::vector<ModelOutcome> outcomes;
  for (std::size_t m = 0; m < job.models.size(); ++m) {
    const Stopwatch watch;
    outcomes.push_back(run_model(context, m));
    outcomes.back().elapsed_s = watch.elapsed_s();
    if (communicator.is_root()) report_outcome(job.models[m], outcomes.back());
    if (outcomes.back().status == ModelStatus::stopped) break;
  }

  const int exit_code = exit_code_of(outcomes);
  share_from_root(communicator, [&] {
    if (exit_code == kStopped) {
      progress.finish_run("stopped");
      log_warning("stopped by {}; what is finished is safe: run the same command again to go on",
                  stop.requested() ? stop.reason() : "another rank");
      return "";
    }
    const auto rows = summarize(job, outcomes);
    write_summary_file(job.output / "summary.h5", rows);
    remove_finished_journals(context, outcomes);
    progress.finish_run(exit_code == kAllDone ? "done" : "done with errors");
    fmt::print("{}results: {}\n", summary_table(rows), job.output.string());
    std::fflush(stdout);
    return "";
  });
  return exit_code;
}

}  // namespace spectrace
