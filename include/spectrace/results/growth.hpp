#pragma once

#include <vector>

#include "spectrace/plan/job.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// What a job asks for and results lack: analyses of weights, and sets with the analyses that are to be made of them.
struct Lack {
  AnalysisChoice of_weights;
  std::vector<PlannedSet> sets;
  bool empty() const { return of_weights.empty() && sets.empty(); }
};

/// A set is open for the analyses that it lacks alone: what the results hold of it stays as it is, whatever the job
/// says now of what to keep. An analysis lacks what the job wants to keep and the results have not, and units that
/// failed: then all that the results hold of it is made again.
/// @pre the results have the identity of the job.
Lack find_lack(const ResultTree& earlier, const AnalysisChoice& analyses, const KeepChoice& keep,
               std::vector<PreparedSet> sets);
/// Of no results: everything.
Lack everything(const AnalysisChoice& analyses, std::vector<PreparedSet> sets);

}  // namespace spectrace
