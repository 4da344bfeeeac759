#include "spectrace/results/growth.hpp"

#include <algorithm>
#include <sstream>

#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

const AttributeValue* find_attribute(const Group& group, const char* name) {
  for (const auto& [attribute, value] : group.attributes)
    if (attribute == name) return &value;
  return nullptr;
}

/// What follows from the model alone among it.
bool has_all(const Group* group, const Analysis& analysis) {
  const auto& quantities = analysis.info().quantities;
  const auto& facts = analysis.info().facts;
  const auto has = [&](const Quantity& quantity) { return group->find(quantity.name) != nullptr; };
  return group != nullptr && std::all_of(quantities.begin(), quantities.end(), has) &&
         std::all_of(facts.begin(), facts.end(), [&](const Fact& fact) { return has(fact.quantity); });
}

/// Whether the results hold the set's statistics of the analysis, and every value that is to be kept.
bool has_of_set(const ResultTree& tree, const std::string& set, const Chosen& chosen, const KeepChoice& keep) {
  const Group *rows = tree.find(group_of_set(set)), *statistics = tree.find(group_of_statistics(set));
  if (rows == nullptr || statistics == nullptr) return false;
  const auto failed = failed_analyses(tree, *rows);
  if (std::find(failed.begin(), failed.end(), chosen.name()) != failed.end()) return false;
  for (const Quantity* quantity : chosen.quantities()) {
    if (quantity->has_statistics && statistics->find(quantity->name) == nullptr) return false;
    if (is_kept(*quantity, keep) && rows->find(quantity->name) == nullptr) return false;
  }
  return true;
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
  std::vector<std::string> left;
  for (const Chosen& chosen : lack.of_weights)
    if (!has_all(earlier.find(chosen.analysis->info().group), *chosen.analysis)) left.push_back(chosen.name());
  lack.of_weights = lack.of_weights.only(left);
  for (PlannedSet& set : lack.sets) {
    std::vector<std::string> open;
    for (const Chosen& chosen : set.analyses)
      if (!has_of_set(earlier, set.name, chosen, keep)) open.push_back(chosen.name());
    set.analyses = set.analyses.only(open);
  }
  std::erase_if(lack.sets, [](const PlannedSet& set) { return set.analyses.empty(); });
  return lack;
}

bool has_failed_units(const Group& group) { return find_attribute(group, kFailedUnitsAttribute) != nullptr; }

std::int64_t num_failed_units(const Group& group) {
  const AttributeValue* value = find_attribute(group, kFailedUnitsAttribute);
  const auto* number = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
  return number == nullptr ? 0 : *number;
}

std::vector<std::string> failed_analyses(const ResultTree& tree, const Group& set) {
  if (!has_failed_units(set)) return {};
  std::vector<std::string> names;
  const AttributeValue* value = find_attribute(set, kFailedAnalysesAttribute);
  if (const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value)) {
    std::istringstream words(*text);
    for (std::string word; words >> word;) names.push_back(word);
    return names;
  }
  for (const Analysis* analysis : analyses_in(tree))
    if (analysis->info().group.empty()) names.push_back(analysis->name());
  return names;
}

}  // namespace spectrace
