#pragma once

#include <map>
#include <string>
#include <vector>

#include "spectrace/measure/prompts.hpp"
#include "spectrace/measure/record.hpp"
#include "spectrace/plan/model_plan.hpp"
#include "spectrace/results/statistics.hpp"
#include "spectrace/store/result_file.hpp"
#include "spectrace/store/result_tree.hpp"
#include "spectrace/store/schema.hpp"

namespace spectrace {

/// Puts the records of one model's units into the groups of its results file. Units are seen one at a time, in any
/// order.
class Assembly {
 public:
  Assembly(const ModelDescription& model, const ModelPlan& plan, Slicing slicing, const PromptAnalyses& analyses,
           const KeepChoice& keep);

  /// Weights, heads and unembedding are taken up; of prompts only why they failed: their rows are written by
  /// write_rows; of parts of the unembedding too: add_unembedding gets what they are together.
  void add(std::size_t unit, const Record& record);
  void add_unembedding(const Record& record);

  /// Groups of the weights, in the order of the contract. Call once, after all units were added.
  std::vector<Group> take_weights();
  /// The group of a set, its quantities in_rows. Call once, after all units were added.
  Group take_set_group(std::size_t set);
  /// The rows of a batch, and of prompts before it that did not run; with no unit those of the rest of the set.
  /// Batches of a set come in their order.
  void write_rows(std::size_t set, const Unit* unit, const Record& record, ResultFileWriter& writer);
  /// Statistics of one quantity of a set.
  void add_statistics(std::size_t set, const std::string& quantity, const QuantityStatistics& statistics);
  /// The group of these. Call once.
  Group take_statistics(std::size_t set);
  /// Every different error, in the order of units; then the sets whose prompts could not all run.
  const std::vector<std::string>& errors() const { return errors_; }
  std::int64_t num_units_done() const { return num_units_done_; }

 private:
  struct SetGroups {
    Group prompts, statistics;
    std::size_t next_prompt = 0;                                 // whose row is written next
    std::vector<std::pair<std::string, std::size_t>> row_sizes;  // of the quantities that are stored
  };
  void start_layer_group(Group& group, const std::vector<DatasetSpec>& schema, std::int64_t index_size);
  void start_set(std::size_t set);
  std::string group_of(const Unit& unit) const;
  void mark_failed(Group& group) const;

  const ModelDescription& model_;
  const ModelPlan& plan_;
  PromptAnalyses analyses_;
  KeepChoice keep_;
  Group weights_, heads_, unembedding_;
  std::vector<SetGroups> sets_;
  std::vector<std::vector<std::string>> prompt_errors_;  // [set][prompt]
  std::vector<std::pair<std::size_t, std::string>> unit_errors_;
  std::vector<std::string> errors_;
  std::int64_t num_units_done_ = 0;
  std::map<std::string, std::int64_t> failed_units_;  // by group
};

/// Sizes of a per-prompt quantity's dimensions after `prompt`, in the order of its dims.
std::vector<std::int64_t> slot_shape(const DatasetSpec& spec, const ModelDescription& model, std::int64_t num_beta,
                                     std::int64_t longest_prompt);

/// Quantities that the analyses ask for.
std::vector<const PromptQuantity*> quantities_of(const PromptAnalyses& analyses);

/// Visits free_energy = -log_partition / beta, slot by slot, some prompts (its first dimension) at a time.
/// @pre beta is the last dimension of log_partition.
void for_each_free_energy(const Array& log_partition, const std::vector<double>& beta,
                          const std::function<void(const Array&)>& visit);

}  // namespace spectrace
