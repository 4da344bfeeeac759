#pragma once

#include <filesystem>
#include <optional>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/comm/reductions.hpp"
#include "spectrace/core/time_limit.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/sweep/exit_code.hpp"

namespace spectrace {

struct RunOptions {
  std::filesystem::path job_path;
  JobOverrides overrides;
  bool fresh = false;
  ReduceBackend reduce = ReduceBackend::automatic;
  IoMode io = IoMode::automatic;
  std::optional<double> max_hours;
  double deadline_s = 45;  ///< without a sign of life of a rank the run ends

  /// What the start and the end may take, where ranks wait for each other and nobody can ask: MPI's own start of many
  /// hosts, root's reading of the job, slow file systems.
  double step_limit_s() const { return 40 + 2 * deadline_s; }
};

struct RunEnd {
  int exit_code = 0;
  /// A thread still computes: the process must leave by std::_Exit.
  bool abandoned = false;
};

/// Runs a job on the communicator's ranks. Collective: all ranks return the same exit code.
/// `limit` is what the caller's start runs under; on return it runs for the end.
/// @throws InputError (usage, io), the same on all ranks, if the run cannot even begin.
RunEnd run_job(const RunOptions& options, Communicator& communicator, TimeLimit& limit);

}  // namespace spectrace
