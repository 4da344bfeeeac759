#include "spectrace/results/contents.hpp"

#include <algorithm>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/layout.hpp"
#include "spectrace/results/summary.hpp"

namespace spectrace {
namespace {

/// The analysis that declares the item among those of this kind.
template <typename Item>
const Analysis* find_owner(const Item* item, std::vector<Item> AnalysisInfo::*kind) {
  for (const Analysis* analysis : catalogue())
    for (const Item& one : analysis->info().*kind)
      if (&one == item) return analysis;
  return nullptr;
}

Quantity quantity_of(const DimensionInfo& dimension) {
  return {.name = dimension.name, .dims = {dimension.name}, .units = dimension.units, .meaning = dimension.meaning};
}

/// Whether datasets of files have the dimension, not records alone.
bool is_in_files(const AnalysisInfo& info, const std::string& dim) {
  const auto has_dim = [&](const Quantity& quantity) {
    return quantity.keep != Keep::in_records &&
           std::find(quantity.dims.begin(), quantity.dims.end(), dim) != quantity.dims.end();
  };
  return std::any_of(info.quantities.begin(), info.quantities.end(), has_dim) ||
         std::any_of(info.facts.begin(), info.facts.end(), [&](const Fact& fact) { return has_dim(fact.quantity); });
}

void add_own(const Analysis& analysis, const std::string& group, std::vector<KnownDataset>& all) {
  for (const Quantity& quantity : analysis.info().quantities)
    if (can_be_kept(quantity)) all.push_back({group, quantity, &analysis});
  for (const Fact& fact : analysis.info().facts) all.push_back({group, fact.quantity, &analysis});
  for (const DimensionInfo& dimension : analysis.info().dimensions)
    if (is_in_files(analysis.info(), dimension.name)) all.push_back({group, quantity_of(dimension), &analysis});
}

void add_statistics(std::vector<KnownDataset>& all) {
  const std::string group = group_of_statistics("<set>");
  for (const Quantity* quantity : prompt_quantities()) {
    if (quantity->keep != Keep::never_rows) continue;
    all.push_back({group, *quantity, find_owner(quantity, &AnalysisInfo::quantities)});
    all.back().quantity.dims = statistics_of(*quantity, {}).dims;
  }
  for (const SetScalar* scalar : set_scalars())
    all.push_back({group, scalar->quantity, find_owner(scalar, &AnalysisInfo::scalars)});
}

std::vector<KnownDataset> make_known() {
  std::vector<KnownDataset> all;
  for (const Analysis* analysis : catalogue())
    if (const std::string& group = analysis->info().group; !group.empty()) add_own(*analysis, group, all);
  const std::string set = group_of_set("<set>");
  for (const Quantity& fact : prompt_facts()) all.push_back({set, fact});
  for (const Analysis* analysis : catalogue())
    if (analysis->info().group.empty()) add_own(*analysis, set, all);
  add_statistics(all);
  for (const Analysis* analysis : catalogue())
    for (const Quantity& quantity : analysis->info().set_quantities)
      all.push_back({group_of_set_numbers("<set>", analysis->name()), quantity, analysis});
  all.push_back({kCheckpointGroup, digest_quantity()});
  for (Quantity& column : common_summary_columns()) all.push_back({kSummaryGroup, std::move(column)});
  for (const SummaryColumn* column : summary_columns())
    all.push_back({kSummaryGroup,
                   {.name = column->name, .dims = {"row"}, .meaning = column->meaning},
                   find_owner(column, &AnalysisInfo::summary)});
  for (const DimensionInfo& dimension : common_dimensions()) all.push_back({"", quantity_of(dimension)});
  return all;
}

}  // namespace

const std::vector<KnownDataset>& known_datasets() {
  static const std::vector<KnownDataset> all = make_known();
  return all;
}

}  // namespace spectrace
