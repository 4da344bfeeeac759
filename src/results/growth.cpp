#include "spectrace/results/growth.hpp"

#include <algorithm>

#include "spectrace/results/failures.hpp"
#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

bool holds(const Group* group, const Quantity& quantity) {
  return group != nullptr && group->find(quantity.name) != nullptr;
}

/// What is made again is made with every option that the results hold numbers of.
Chosen with_options_of(Chosen chosen, const Group* group) {
  for (const Quantity& quantity : chosen.analysis->info().quantities)
    if (!quantity.option.empty() && holds(group, quantity)) chosen.settings[quantity.option] = true;
  return chosen;
}

/// What follows from the model alone among it.
bool has_all(const Group* group, const Chosen& chosen) {
  if (group == nullptr || has_failed_units(*group)) return false;
  const auto quantities = chosen.quantities();
  const auto& facts = chosen.analysis->info().facts;
  return std::all_of(quantities.begin(), quantities.end(), [&](const Quantity* one) { return holds(group, *one); }) &&
         std::all_of(facts.begin(), facts.end(), [&](const Fact& fact) { return holds(group, fact.quantity); });
}

/// Whether the results hold the set's statistics of the analysis, every value that is to be kept, and what the analysis
/// says of the set as a whole.
bool has_of_set(const ResultTree& earlier, const std::string& set, const Chosen& chosen, const KeepChoice& keep) {
  const Group *rows = earlier.find(group_of_set(set)), *statistics = earlier.find(group_of_statistics(set)),
              *numbers = earlier.find(group_of_set_numbers(set, chosen.name()));
  const auto& of_set = chosen.analysis->info().set_quantities;
  if (numbers != nullptr && has_failed_units(*numbers)) return false;
  if (!std::all_of(of_set.begin(), of_set.end(), [&](const Quantity& one) { return holds(numbers, one); }))
    return false;
  const auto quantities = chosen.quantities();
  return std::all_of(quantities.begin(), quantities.end(), [&](const Quantity* quantity) {
    return (!quantity->has_statistics || holds(statistics, *quantity)) &&
           (!is_kept(*quantity, keep) || holds(rows, *quantity));
  });
}

}  // namespace

Lack everything(const AnalysisChoice& analyses, std::vector<PreparedSet> sets) {
  Lack all{analyses.of_weights(), planned(std::move(sets), analyses)};
  std::erase_if(all.sets, [](const PlannedSet& set) { return set.analyses.empty(); });
  return all;
}

Lack find_lack(const ResultTree& earlier, const AnalysisChoice& analyses, const KeepChoice& keep,
               std::vector<PreparedSet> sets) {
  Lack lack = everything(analyses, std::move(sets));
  std::vector<Chosen> of_weights;
  for (const Chosen& chosen : lack.of_weights) {
    const Group* group = earlier.find(chosen.analysis->info().group);
    if (!has_all(group, chosen)) of_weights.push_back(with_options_of(chosen, group));
  }
  lack.of_weights = AnalysisChoice(std::move(of_weights));
  for (PlannedSet& set : lack.sets) {
    const Group* rows = earlier.find(group_of_set(set.name));
    const SetFailures failures(earlier, set.name);
    std::vector<Chosen> open;
    for (const Chosen& chosen : set.analyses)
      if (failures.has_failed_units_of(chosen.name()) || !has_of_set(earlier, set.name, chosen, keep))
        open.push_back(with_options_of(chosen, rows));
    set.analyses = AnalysisChoice(std::move(open));
  }
  std::erase_if(lack.sets, [](const PlannedSet& set) { return set.analyses.empty(); });
  return lack;
}

}  // namespace spectrace
