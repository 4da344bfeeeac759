#pragma once

#include <memory>
#include <vector>

#include "spectrace/comm/communicator.hpp"
#include "spectrace/comm/reductions.hpp"
#include "spectrace/results/summary.hpp"
#include "spectrace/sweep/clock.hpp"
#include "spectrace/sweep/compute_thread.hpp"
#include "spectrace/sweep/folder_lock.hpp"
#include "spectrace/sweep/stop.hpp"
#include "spectrace/work/report.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

struct SweepOutcome {
  int exit_code = 0;
  Expectation expected;          ///< root only: of the models that were opened
  std::vector<SummaryRow> rows;  ///< root only: in the order of the job; empty if the sweep was stopped
  /// The computing thread would not end in the time that a stop has, and still runs: the process must leave without
  /// touching what it uses (std::_Exit).
  bool abandoned = false;
};

/// Runs the sweep: on every rank the calling thread speaks MPI, watches signals and silence, and computing has a thread
/// of its own; root's hands the work out. So nothing waits for a rank that is between two layers, and a stop is
/// acknowledged at once. Collective.
/// `compute`: has ended on return, unless it was abandoned. `lock`: of the output folder, root's; null on the others.
SweepOutcome conduct(RunContext& context, Communicator& communicator, Reductions& reductions, const StopRequest& stop,
                     const Patience& patience, std::unique_ptr<Compute> compute, FolderLock* lock);

}  // namespace spectrace
