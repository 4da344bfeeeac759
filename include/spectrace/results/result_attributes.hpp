#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/plan/job.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/plan/settings.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

struct ResultStatus {
  std::string status;  ///< "ok", "partial", "failed"
  std::string error;   ///< a line each
  std::int64_t failed_units = 0;
};

/// Attributes of a results file, in the order of the contract.
Attributes result_attributes(const Job& job, const ModelEntry& entry, const OpenModel& model,
                             const ResultStatus& status);
/// Those of a model that could not be opened.
Attributes failed_attributes(const Job& job, const ModelEntry& entry, const std::string& error);

/// What of the job decides the numbers of this file, normalised, as the attribute `parameters`: what of the job brought
/// the file's groups about, however the job grew.
void set_parameters(ResultTree& tree, const Identity& identity);

/// A text among the tree's attributes; empty if there is none of the name.
std::string text_attribute(const ResultTree& tree, const std::string& name);
/// Groups of earlier results that the tree has no newer one of.
void add_earlier_groups(const ResultTree& earlier, ResultTree& tree);
/// The order of the contract: groups of weights, prompt sets as the job has them, then sets of earlier jobs.
void order_groups(const Job& job, ResultTree& tree);

}  // namespace spectrace
