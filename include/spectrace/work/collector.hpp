#pragma once

#include <string>
#include <vector>

#include "spectrace/plan/scheduler.hpp"
#include "spectrace/results/earlier_results.hpp"
#include "spectrace/results/summary.hpp"
#include "spectrace/work/order.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// What became of a model.
struct Collection {
  ModelOutcome outcome;
  std::vector<SummaryRow> rows;
  std::vector<OpenUnit> again;  ///< units whose records are not in the journal, or damaged: nothing was written
};

/// Makes a model's results file of its journal and the ranks' sums: records in the plan's order, exact sums, rows. Any
/// rank can do it. A batch whose values are in the sums is read for its rows alone, others once more for sums.
/// @throws InputError (io) if the file cannot be written.
Collection collect_model(RunContext& context, const Order& order);

/// Of a model whose results are there and hold all that is asked for; what describes it is brought up to date.
Collection finished_model(const RunContext& context, const ModelEntry& entry, ResultTree tree);

/// Of a model that could not be opened (`failed`) or whose results are of something else (`mismatch`). The first still
/// gets its file: it says why. Good results of an earlier run stay.
Collection unopened_model(const RunContext& context, const ModelEntry& entry, const ModelOutcome& outcome);

}  // namespace spectrace
