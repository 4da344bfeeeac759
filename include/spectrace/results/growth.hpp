#pragma once

#include <string>
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
/// says now of what to keep. An analysis lacks what the job wants to keep and the results have not: then it is made
/// again.
/// @pre the results have the identity of the job.
Lack find_lack(const ResultTree& earlier, const AnalysisChoice& analyses, const KeepChoice& keep,
               std::vector<PreparedSet> sets);
/// Of no results: everything.
Lack everything(const AnalysisChoice& analyses, std::vector<PreparedSet> sets);

/// Of a group some of whose units failed: how many, and of a set, which analyses these units were of.
inline constexpr const char *kFailedUnitsAttribute = "failed_units", *kFailedAnalysesAttribute = "failed_analyses";
bool has_failed_units(const Group& group);
std::int64_t num_failed_units(const Group& group);
/// All analyses that the set has, where the group does not say (files of before it did).
std::vector<std::string> failed_analyses(const ResultTree& tree, const Group& set);

}  // namespace spectrace
