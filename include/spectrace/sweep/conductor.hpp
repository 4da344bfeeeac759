#pragma once

#include <memory>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/results/summary.hpp"
#include "spectrace/sweep/folder_lock.hpp"
#include "spectrace/sweep/stop.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// What planning expected of the models that were opened, seen from root.
struct Expectation {
  double busy_s = 0;  ///< of all ranks together
  double peak_bytes = 0;
  bool is_calibrated = true;  ///< by rates measured on this machine
};

struct SweepOutcome {
  int exit_code = 0;
  Expectation expected;          ///< root only
  std::vector<SummaryRow> rows;  ///< root only: in the order of the job; empty if the sweep was stopped
  /// The computing thread would not end in the time that a stop has, and still runs: the process must leave without
  /// touching what it uses (std::_Exit).
  bool abandoned = false;
};

/// How long ranks wait for each other.
struct Patience {
  double silence_s = 45;  ///< without a sign of life of a rank, the run ends
  double stop_s = 40;     ///< what a stop gives the work under way
};

/// Runs the sweep: on every rank the calling thread speaks MPI, watches signals and silence, and computing has a thread
/// of its own; root's hands the work out. So nothing waits for a rank that is between two layers, and a stop is
/// acknowledged at once. Collective.
/// `lock`: of the output folder, root's; null on the others.
SweepOutcome conduct(const std::shared_ptr<RunContext>& context, Communicator& communicator, const StopRequest& stop,
                     const Patience& patience, FolderLock* lock);

}  // namespace spectrace
