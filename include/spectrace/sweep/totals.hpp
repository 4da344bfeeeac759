#pragma once

#include "spectrace/comm/communicator.hpp"
#include "spectrace/work/report.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// Says in the log what the sweep took, of all ranks: stages, the share of the ranks' time at work, memory, and how far
/// from what was expected that is. @pre nothing computes any more. Collective.
void log_totals(const RunContext& context, const Expectation& expected, double elapsed_s, Communicator& communicator);

}  // namespace spectrace
