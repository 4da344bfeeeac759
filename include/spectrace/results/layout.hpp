#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "spectrace/measure/analysis.hpp"
#include "spectrace/measure/choice.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// What results hold of a set's prompts whatever is measured of them: int64 numbers and texts. The last one is there
/// only if it says more than prompt_error.
inline constexpr const char *kPromptId = "prompt_id", *kNumTokens = "num_tokens", *kPromptError = "prompt_error",
                            *kTokenIds = "token_ids", *kRowStart = "row_start",
                            *kPromptErrorByAnalysis = "prompt_error_by_analysis";
const std::vector<Quantity>& prompt_facts();

/// Which tensors results were made of: the group, its dataset and its dimension.
inline constexpr const char *kCheckpointGroup = "/checkpoint", *kDigest = "digest", *kTensor = "tensor";
const Quantity& digest_quantity();

Dimension dimension_of(const DimensionValues& dimension);
/// One that every model has. @pre layer, head, boundary, prompt, token, statistic, row or tensor.
Dimension common_dimension(const std::string& name, Coordinate values);
Dataset dataset_of(const Quantity& quantity, DatasetValues values);
/// The same of its statistics over the prompts.
Dataset statistics_of(const Quantity& quantity, std::vector<double> values);

/// The group of an analysis of weights: dimensions, every quantity NaN, what follows from the model alone.
Group empty_group(const Chosen& chosen, const ModelDescription& model, Slicing slicing);

/// The group of what an analysis says of a set as a whole, with its `numbers`, or why there are none: every value NaN.
Group set_numbers_group(const Chosen& chosen, const Circumstances& of, const std::string& set, const Record& numbers);
/// The analysis whose group of that kind it is; null if it is none.
const Analysis* analysis_of_set_numbers(const Group& group);

/// All quantities that prompts may have, and all scalars of a set, in the order of files.
std::vector<const Quantity*> prompt_quantities();
std::vector<const SetScalar*> set_scalars();
/// Whether it holds float64 numbers of each prompt.
bool is_by_prompt(const Dataset& dataset);
/// Whether a set's statistics have some of the analysis.
bool has_some(const Group& statistics, const Analysis& analysis);
/// The analyses of which the tree has something.
std::vector<const Analysis*> analyses_in(const ResultTree& tree);

/// Why a group does not hold what the catalogue says of it, in dimensions and types; empty if it does. What the
/// catalogue does not know, or the group has not, is no misfit.
std::string find_misfit(const Group& group);

/// The numbers of a tree: all but those that each prompt has.
class TreeNumbers final : public ResultNumbers {
 public:
  /// What is in_rows is read from the file `rows`, when it is asked for. @pre the tree outlives it.
  TreeNumbers(const ResultTree& tree, std::filesystem::path rows) : tree_(tree), rows_(std::move(rows)) {}
  /// @throws InputError (io).
  const std::vector<double>* numbers(const std::string& group, const std::string& dataset) const override;
  const std::vector<std::string>* names(const std::string& group, const std::string& dimension) const override;

 private:
  const ResultTree& tree_;
  const std::filesystem::path rows_;
  mutable std::map<std::pair<std::string, std::string>, std::vector<double>> read_;
};

/// Every set's scalars, of the statistics that the tree holds now: what they follow from may have come from different
/// runs, and be more than when the set was made. `rows`: as for TreeNumbers. @throws InputError (io).
void update_scalars(ResultTree& tree, const std::filesystem::path& rows);

}  // namespace spectrace
