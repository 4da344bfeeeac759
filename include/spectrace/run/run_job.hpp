#pragma once

#include <filesystem>
#include <optional>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/comm/reducer.hpp"
#include "spectrace/core/log.hpp"
#include "spectrace/plan/job.hpp"

namespace spectrace {

/// Exit codes of the program (docs/manual.md).
enum ExitCode : int { kAllDone = 0, kSomeFailed = 1, kWrongUsage = 2, kNothingReadOrWritten = 3, kStopped = 75 };

struct RunOptions {
  std::filesystem::path job_path;
  JobOverrides overrides;
  bool fresh = false;
  ReduceBackend reduce = ReduceBackend::automatic;
  IoMode io = IoMode::automatic;
  std::optional<double> max_hours;
  LogLevel log_level = LogLevel::info;
};

/// Runs a job on the communicator's ranks. Collective: all ranks return the same exit code.
/// @throws InputError (usage, io), the same on all ranks, if the run as a whole cannot go on.
int run_job(const RunOptions& options, Communicator& communicator);

/// Threads for this rank: `asked`, else OMP_NUM_THREADS, else the cores that this rank may use, each shared among the
/// ranks of this host that may use it too. At least 1. Collective.
int choose_num_threads(std::optional<int> asked, Communicator& communicator);

}  // namespace spectrace
