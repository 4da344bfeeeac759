#include "spectrace/results/layout.hpp"

#include <algorithm>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/failures.hpp"
#include "spectrace/store/result_file.hpp"

namespace spectrace {
namespace {

std::vector<std::string> statistics_dims(const Quantity& quantity) {
  std::vector<std::string> dims = quantity.dims;
  dims.front() = "statistic";
  return dims;
}

/// Whether it is a set's group of that name, and not a set that is called so.
bool is_below_a_set(const Group& group, const std::string& name) {
  return group.path.starts_with(group_of_set("")) && group.path.ends_with("/" + name) &&
         group.path.size() > (group_of_set("") + "/" + name).size();
}

bool is_statistics(const Group& group) { return is_below_a_set(group, "statistics"); }

bool holds_numbers(const Dataset& dataset) { return std::holds_alternative<std::vector<double>>(dataset.values); }

const Analysis& analysis_of(const SetScalar& scalar) {
  const auto is_of = [&](const Analysis* analysis) {
    const auto& scalars = analysis->info().scalars;
    return std::any_of(scalars.begin(), scalars.end(), [&](const SetScalar& one) { return &one == &scalar; });
  };
  return **std::find_if(catalogue().begin(), catalogue().end(), is_of);
}

/// @param optional_dim one of them that the group may have not
std::string find_dataset_misfit(const Group& group, const std::string& name, std::vector<std::string> dims,
                                const std::string& optional_dim = {}) {
  const Dataset* dataset = group.find(name);
  if (group.find_dimension(optional_dim) == nullptr) std::erase(dims, optional_dim);
  if (dataset == nullptr || (holds_numbers(*dataset) && dataset->dims == dims)) return "";
  return group.path + "/" + name + " has another type or other dimensions";
}

std::string find_statistics_misfit(const Group& group) {
  const Dimension* statistic = group.find_dimension("statistic");
  const auto* names = statistic == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&statistic->values);
  if (names == nullptr || *names != statistic_names()) return group.path + " has other statistics";
  for (const SetScalar* scalar : set_scalars())
    if (auto misfit = find_dataset_misfit(group, scalar->quantity.name, {}); !misfit.empty()) return misfit;
  for (const Quantity* quantity : prompt_quantities())
    if (auto misfit = find_dataset_misfit(group, quantity->name, statistics_dims(*quantity)); !misfit.empty())
      return misfit;
  return "";
}

std::string find_set_misfit(const Group& group) {
  for (const char* name : {kPromptError, kPromptId, kPromptErrorByAnalysis}) {
    const Dataset* texts = group.find(name);
    const bool is_good = texts == nullptr ? name == std::string(kPromptErrorByAnalysis)
                                          : std::holds_alternative<std::vector<std::string>>(texts->values);
    if (!is_good) return group.path + "/" + name + " is absent or of another type";
  }
  for (const Quantity* quantity : prompt_quantities())
    if (auto misfit = find_dataset_misfit(group, quantity->name, quantity->dims); !misfit.empty()) return misfit;
  return "";
}

/// Puts datasets into a group, and the dimensions that they name, in the order in which they name them.
class GroupOf {
 public:
  GroupOf(const Chosen& chosen, const Circumstances& of, std::string path)
      : own_(chosen.analysis->dimensions(of)),
        extents_(chosen.extents(of.model, of.slicing, of.longest_prompt, of.num_prompts)) {
    group_.path = std::move(path);
  }

  void add_empty(const Quantity& quantity) {
    const auto dims = dims_of(quantity, extents_);
    add(quantity, std::vector<double>(static_cast<std::size_t>(num_values(quantity, extents_)), kNaN), dims);
  }
  void add(const Quantity& quantity, DatasetValues values, const std::vector<std::string>& dims) {
    for (const auto& dim : dims) add_dimension(dim);
    group_.datasets.push_back(dataset_of(quantity, std::move(values)));
    group_.datasets.back().dims = dims;
  }
  Group& group() { return group_; }

 private:
  void add_dimension(const std::string& dim) {
    if (group_.find_dimension(dim) != nullptr) return;
    const auto place =
        std::find_if(own_.begin(), own_.end(), [&](const DimensionValues& one) { return one.info.name == dim; });
    group_.dimensions.push_back(place != own_.end() ? dimension_of(*place)
                                                    : common_dimension(dim, counted(extents_.at(dim))));
  }

  const std::vector<DimensionValues> own_;
  const Extents extents_;
  Group group_;
};

}  // namespace

const std::vector<Quantity>& prompt_facts() {
  static const std::vector<Quantity> facts = {
      {.name = kPromptId, .dims = {"prompt"}, .meaning = "Name of the prompt"},
      {.name = kNumTokens, .dims = {"prompt"}, .meaning = "Tokens of the prompt"},
      {.name = kPromptError, .dims = {"prompt"}, .meaning = "Why the prompt could not run; empty if it did"},
      {.name = kTokenIds, .dims = {"token"}, .meaning = "Token ids of all prompts, one after the other"},
      {.name = kRowStart, .dims = {"prompt"}, .meaning = "Place of the prompt's first token in token_ids"},
      {.name = kPromptErrorByAnalysis,
       .dims = {"prompt"},
       .meaning = "Errors by analysis, as JSON, where a prompt failed of some of them alone"},
  };
  return facts;
}

const Quantity& digest_quantity() {
  static const Quantity digest = {
      .name = kDigest,
      .dims = {kTensor},
      .meaning = "Digest of the tensor's bytes, type and shape: what the results were made of"};
  return digest;
}

Dimension dimension_of(const DimensionValues& dimension) {
  const bool is_common = dimension.info.meaning.empty();
  const DimensionInfo& info = is_common ? dimension_info(dimension.info.name) : dimension.info;
  return {info.name, dimension.values, info.units, info.meaning};
}

Dimension common_dimension(const std::string& name, Coordinate values) {
  return dimension_of({{name}, std::move(values)});
}

Dataset dataset_of(const Quantity& quantity, DatasetValues values) {
  return {quantity.name, quantity.dims, quantity.units, quantity.meaning, std::move(values)};
}

Dataset statistics_of(const Quantity& quantity, std::vector<double> values) {
  Dataset dataset = dataset_of(quantity, std::move(values));
  dataset.dims = statistics_dims(quantity);
  return dataset;
}

Group empty_group(const Chosen& chosen, const ModelDescription& model, Slicing slicing) {
  const AnalysisInfo& info = chosen.analysis->info();
  const Circumstances circumstances{model, slicing, chosen.settings};
  GroupOf made(chosen, circumstances, info.group);
  if (!info.ignores_slicing.empty())
    made.group().attributes.emplace_back("slicing", std::string(name(Slicing::correct)));
  for (const Quantity* quantity : chosen.quantities()) made.add_empty(*quantity);
  for (const Fact& fact : info.facts)
    std::visit([&](auto values) { made.add(fact.quantity, std::move(values), fact.quantity.dims); },
               fact.values(circumstances));
  return std::move(made.group());
}

Group set_numbers_group(const Chosen& chosen, const Circumstances& of, const std::string& set, const Record& numbers) {
  GroupOf made(chosen, of, group_of_set_numbers(set, chosen.name()));
  for (const Quantity& quantity : chosen.analysis->info().set_quantities) {
    made.add_empty(quantity);
    if (!numbers.error.empty()) continue;
    auto& values = std::get<std::vector<double>>(made.group().datasets.back().values);
    SPECTRACE_ASSERT(values.size() == numbers.arrays.at(quantity.name).values.size());
    values = numbers.arrays.at(quantity.name).values;
  }
  if (!numbers.error.empty()) {
    made.group().attributes.emplace_back(kFailedUnitsAttribute, std::int64_t{1});
    made.group().attributes.emplace_back(kErrorAttribute, numbers.error);
  }
  return std::move(made.group());
}

const Analysis* analysis_of_set_numbers(const Group& group) {
  for (const Analysis* analysis : catalogue())
    if (!analysis->info().set_quantities.empty() && is_below_a_set(group, analysis->name())) return analysis;
  return nullptr;
}

std::vector<const Quantity*> prompt_quantities() {
  std::vector<const Quantity*> all;
  for (const Analysis* analysis : catalogue())
    if (analysis->info().group.empty())
      for (const Quantity& quantity : analysis->info().quantities) all.push_back(&quantity);
  return all;
}

std::vector<const SetScalar*> set_scalars() {
  std::vector<const SetScalar*> all;
  for (const Analysis* analysis : catalogue())
    for (const SetScalar& scalar : analysis->info().scalars) all.push_back(&scalar);
  std::stable_sort(all.begin(), all.end(), [](const SetScalar* a, const SetScalar* b) { return a->place < b->place; });
  return all;
}

bool is_by_prompt(const Dataset& dataset) {
  return holds_numbers(dataset) && !dataset.dims.empty() && dataset.dims.front() == "prompt";
}

bool has_some(const Group& statistics, const Analysis& analysis) {
  const auto& quantities = analysis.info().quantities;
  return analysis.info().group.empty() &&
         std::any_of(quantities.begin(), quantities.end(),
                     [&](const Quantity& quantity) { return statistics.find(quantity.name) != nullptr; });
}

std::vector<const Analysis*> analyses_in(const ResultTree& tree) {
  std::vector<const Analysis*> present;
  for (const Analysis* analysis : catalogue()) {
    const auto is_of = [&](const Group& group) {
      return is_statistics(group) ? has_some(group, *analysis)
                                  : group.path == analysis->info().group || analysis_of_set_numbers(group) == analysis;
    };
    if (std::any_of(tree.groups.begin(), tree.groups.end(), is_of)) present.push_back(analysis);
  }
  return present;
}

std::string find_misfit(const Group& group) {
  if (const Analysis* analysis = analysis_of_set_numbers(group)) {
    for (const Quantity& quantity : analysis->info().set_quantities)
      if (auto misfit = find_dataset_misfit(group, quantity.name, quantity.dims); !misfit.empty()) return misfit;
    return "";
  }
  if (group.path.starts_with(group_of_set("")))
    return is_statistics(group) ? find_statistics_misfit(group) : find_set_misfit(group);
  for (const Analysis* analysis : catalogue())
    if (analysis->info().group == group.path)
      for (const Quantity& quantity : analysis->info().quantities)
        if (auto misfit = find_dataset_misfit(group, quantity.name, quantity.dims, quantity.optional_dim);
            !misfit.empty())
          return misfit;
  return "";
}

const std::vector<std::string>* TreeNumbers::names(const std::string& group, const std::string& dimension) const {
  const Group* of_tree = tree_.find(group);
  const Dimension* found = of_tree == nullptr ? nullptr : of_tree->find_dimension(dimension);
  return found == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&found->values);
}

const std::vector<double>* TreeNumbers::numbers(const std::string& group, const std::string& dataset) const {
  const Group* of_tree = tree_.find(group);
  const Dataset* values = of_tree == nullptr ? nullptr : of_tree->find(dataset);
  if (values == nullptr || !values->in_rows)
    return values == nullptr ? nullptr : std::get_if<std::vector<double>>(&values->values);
  if (is_by_prompt(*values)) return nullptr;
  const auto [place, is_new] = read_.try_emplace({group, dataset});
  if (is_new)
    read_rows(rows_, *of_tree, {values}, [&](const Dataset&, std::span<const double> rows) {
      place->second.insert(place->second.end(), rows.begin(), rows.end());
    });
  return &place->second;
}

void update_scalars(ResultTree& tree, const std::filesystem::path& rows) {
  const auto scalars = set_scalars();
  std::vector<std::vector<Dataset>> of_sets;
  const TreeNumbers numbers(tree, rows);
  for (const Group& group : tree.groups) {
    auto& made = of_sets.emplace_back();
    if (!is_statistics(group)) continue;
    const std::string set = group.path.substr(group_of_set("").size(), group.path.rfind('/') - group_of_set("").size());
    for (const SetScalar* scalar : scalars)
      if (const Analysis& analysis = analysis_of(*scalar); analysis.info().is_default || has_some(group, analysis))
        made.push_back(dataset_of(scalar->quantity, std::vector<double>{scalar->value(numbers, set)}));
  }
  for (std::size_t g = 0; g < of_sets.size(); ++g) {
    auto& datasets = tree.groups[g].datasets;
    if (!is_statistics(tree.groups[g])) continue;
    std::erase_if(datasets, [&](const Dataset& dataset) {
      return std::any_of(scalars.begin(), scalars.end(),
                         [&](const SetScalar* scalar) { return scalar->quantity.name == dataset.name; });
    });
    datasets.insert(datasets.end(), of_sets[g].begin(), of_sets[g].end());
  }
}

}  // namespace spectrace
