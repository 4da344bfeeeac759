#pragma once

#include <string>
#include <vector>

#include "spectrace/plan/scheduler.hpp"
#include "spectrace/results/earlier_results.hpp"
#include "spectrace/results/summary.hpp"
#include "spectrace/work/run_context.hpp"

namespace spectrace {

/// What became of a model.
struct Collection {
  ModelOutcome outcome;
  std::vector<SummaryRow> rows;
  std::vector<OpenUnit> again;  ///< units whose records are not in the journal, or damaged: nothing was written
};

/// Makes a model's results file of its journal: records in the plan's order, exact sums, rows. Any rank can do it.
/// `journal_files`: names of files that ranks of this run have written, which may not be listed yet.
/// @throws InputError (io) if the file cannot be written.
Collection collect_model(const RunContext& context, const ModelEntry& entry,
                         const std::vector<std::string>& journal_files);

/// Of a model whose results are there and hold all that is asked for; what describes it is brought up to date.
Collection finished_model(const RunContext& context, const ModelEntry& entry, ResultTree tree);

/// Of a model that could not be opened (`failed`) or whose results are of something else (`mismatch`). The first still
/// gets its file: it says why. Good results of an earlier run stay.
Collection unopened_model(const RunContext& context, const ModelEntry& entry, const ModelOutcome& outcome);

}  // namespace spectrace
