#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "spectrace/measure/record.hpp"
#include "spectrace/plan/job.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/statistics.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/store/result_tree.hpp"

namespace spectrace {

/// Puts the records of one model's units, and what earlier results hold of the same groups, into the groups of its
/// results file. Units are seen one at a time, in any order.
class Assembly {
 public:
  /// @pre all outlive it; token ids of the plan's prompts are taken here and not needed afterwards.
  Assembly(const ModelDescription& model, const ModelPlan& plan, Slicing slicing, const KeepChoice& keep);

  /// Weights are taken up; of prompts only why they failed: their rows are written by write_rows; of parts of an
  /// analysis of rows, that they are done: add_joined gets what they are together.
  void add(std::size_t unit, const Record& record);
  void add_joined(const RowsAnalysis& analysis, const Record& record);

  /// Groups of the weights, in the catalogue's order, with what failed of them. Call once, after all units were added.
  std::vector<Group> take_weights();
  /// The group of a set, its quantities in_rows, those that are copied from `earlier` among them. Call once, after all
  /// units were added.
  Group take_set_group(std::size_t set, const ResultTree* earlier);
  /// Of these, the quantities that are copied.
  const std::set<std::string>& copied(std::size_t set) const { return sets_[set].copied; }
  /// The rows of a batch, and of prompts before it that did not run; with no batch those of the rest of the set.
  /// Batches of a set come in their order.
  void write_rows(std::size_t set, const BatchWork* batch, const Record& record, ResultFileWriter& writer);
  /// Whether anything is stored of single prompts that was measured now.
  bool has_rows(std::size_t set) const { return !sets_[set].row_sizes.empty(); }
  /// Prompts whose rows are written.
  std::size_t num_written(std::size_t set) const { return sets_[set].next_prompt; }
  /// Statistics of a quantity that was measured now.
  void add_statistics(std::size_t set, const Quantity& quantity, std::vector<double> values);
  /// The group of these and of what `earlier` has beside them, without scalars: update_scalars makes them. Call once.
  Group take_statistics(std::size_t set, const Group* earlier);

  /// Of rows that could not be measured there is nothing, and so no group that says why.
  std::vector<std::string> errors_without_group() const;
  std::int64_t num_failed_without_group() const;
  std::int64_t num_units_done() const { return num_units_done_; }

 private:
  struct SetState {
    Group rows, statistics;  // once the rows' group is taken, it has no values here
    std::map<std::string, std::vector<double>> values_of_statistics;  // by quantity
    std::vector<std::string> errors;                                  // of each prompt
    std::set<std::string> copied;
    std::size_t next_prompt = 0;                                 // whose row is written next
    std::vector<std::pair<std::string, std::size_t>> row_sizes;  // of the quantities that are stored and measured now
    std::int64_t failed_units = 0;
    std::int64_t longest_prompt = 0;  // tokens
  };
  void add_tensor(const TensorWork& work, const Record& record);
  void start_set(const PlannedSet& set);
  void add_failures(SetState& state, const PlannedSet& set, const ResultTree* earlier) const;
  void add_quantities(SetState& state, const PlannedSet& set, const Group* earlier) const;
  void add_dimensions(SetState& state, const PlannedSet& set, const Group* earlier) const;

  const ModelDescription& model_;
  const ModelPlan& plan_;
  const Slicing slicing_;
  const KeepChoice& keep_;
  std::map<const Analysis*, Group> weights_;                                    // moved from when they are taken
  std::map<const Analysis*, std::map<std::size_t, std::string>> failed_units_;  // of weights: unit, error
  std::vector<SetState> sets_;
  std::int64_t num_units_done_ = 0;
};

/// Visits a derived quantity of some prompts, slot by slot, some of them (the first dimension) at a time.
/// `coordinates`: along the last dimension.
void for_each_derived(const Quantity& quantity, const Array& source, const std::vector<double>& coordinates,
                      const std::function<void(const Array&)>& visit);

}  // namespace spectrace
