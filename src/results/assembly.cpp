#include "spectrace/results/assembly.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/results/failures.hpp"

namespace spectrace {
namespace {

/// Values that are brought into the file's form at once: 16 MiB.
constexpr std::size_t kMostRowValues = std::size_t{1} << 21;

std::vector<double>& numbers(Group& group, const std::string& name) {
  for (auto& dataset : group.datasets)
    if (dataset.name == name) return std::get<std::vector<double>>(dataset.values);
  SPECTRACE_ASSERT(false);
  throw std::logic_error("no dataset " + name);
}

std::size_t num_slots(const Group& group, const Dataset& dataset) {
  std::size_t slots = 1;
  for (std::size_t d = 1; d < dataset.dims.size(); ++d) slots *= group.find_dimension(dataset.dims[d])->size();
  return slots;
}

/// Prompts [first, last) of a set as a dataset has them, `slots` values each, the last of its dimensions `width` wide:
/// from the record of a batch, if there is one.
std::vector<double> rows_of(const std::string& name, std::size_t slots, std::size_t width, const BatchWork* batch,
                            const Record& record, std::size_t first, std::size_t last) {
  std::vector<double> rows((last - first) * slots, kNaN);  // of prompts that did not run: NaN
  if (batch == nullptr || !record.error.empty()) return rows;
  const Array& array = record.arrays.at(name);
  const std::size_t of_prompt = array.values.size() / batch->prompts.size();
  if (of_prompt == 0) return rows;
  // The batch's longest prompt may be shorter than the set's: lines are padded then.
  const auto line = array.shape.size() == 1 ? std::size_t{1} : static_cast<std::size_t>(array.shape.back());
  for (std::size_t i = 0; i < batch->prompts.size(); ++i) {
    if (batch->prompts[i] < first || batch->prompts[i] >= last) continue;
    for (std::size_t l = 0; l < of_prompt / line; ++l)
      std::copy_n(array.values.begin() + static_cast<std::ptrdiff_t>(i * of_prompt + l * line), line,
                  rows.begin() + static_cast<std::ptrdiff_t>((batch->prompts[i] - first) * slots + l * width));
  }
  return rows;
}

/// The different errors of units, in their order.
std::vector<std::string> different(const std::map<std::size_t, std::string>& failed) {
  std::vector<std::string> errors;
  for (const auto& [unit, error] : failed)
    if (std::find(errors.begin(), errors.end(), error) == errors.end()) errors.push_back(error);
  return errors;
}

/// What the rows that are written need of their group.
Group without_values(const Group& group) {
  Group names{group.path, {}, group.dimensions, {}};
  for (const Dataset& dataset : group.datasets)
    names.datasets.push_back({dataset.name, dataset.dims, dataset.units, dataset.long_name, {}, dataset.in_rows});
  return names;
}

bool has_dimension(const Group& group, const std::string& dim) {
  return std::any_of(group.datasets.begin(), group.datasets.end(), [&](const Dataset& dataset) {
    return std::find(dataset.dims.begin(), dataset.dims.end(), dim) != dataset.dims.end();
  });
}

}  // namespace

void for_each_derived(const Quantity& quantity, const Array& source, const std::vector<double>& coordinates,
                      const std::function<void(const Array&)>& visit) {
  const auto num_prompts = static_cast<std::size_t>(source.shape.front());
  const std::size_t slots = num_prompts == 0 ? 0 : source.values.size() / num_prompts;
  const std::size_t piece = std::max<std::size_t>(1, kMostRowValues / std::max<std::size_t>(1, slots));
  for (std::size_t first = 0; first < num_prompts; first += piece) {
    const std::size_t last = std::min(num_prompts, first + piece);
    Array derived{source.shape, {}};
    derived.shape.front() = static_cast<std::int64_t>(last - first);
    derived.values.reserve((last - first) * slots);
    for (std::size_t i = first * slots; i < last * slots; ++i)
      derived.values.push_back(quantity.derived.value(source.values[i], coordinates[i % coordinates.size()]));
    visit(derived);
  }
}

Assembly::Assembly(const ModelDescription& model, const ModelPlan& plan, Slicing slicing, const KeepChoice& keep)
    : model_(model), plan_(plan), slicing_(slicing), keep_(keep) {
  for (const Chosen& chosen : plan.of_weights)
    if (chosen.of_rows() == nullptr) weights_[chosen.analysis] = empty_group(chosen, model, slicing);
  for (const PlannedSet& set : plan.sets) start_set(set);
}

void Assembly::start_set(const PlannedSet& set) {
  SetState& state = sets_.emplace_back();
  state.rows.path = group_of_set(set.name);
  state.rows.attributes.emplace_back("prompt_sha256", set.digest());
  if (!set.tokenizer.empty()) state.rows.attributes.emplace_back("tokenizer", set.tokenizer);
  state.statistics.path = group_of_statistics(set.name);
  state.longest_prompt = set.longest_prompt();

  std::vector<std::string> ids;
  std::vector<std::int64_t> num_tokens, token_ids, row_start;
  std::size_t num_all_tokens = 0;
  for (const auto& prompt : set.prompts) num_all_tokens += prompt.token_ids.size();
  token_ids.reserve(num_all_tokens);
  for (auto* values : {&ids, &state.errors}) values->reserve(set.prompts.size());
  for (auto* values : {&num_tokens, &row_start}) values->reserve(set.prompts.size());
  for (const auto& prompt : set.prompts) {
    ids.push_back(prompt.id);
    state.errors.push_back(prompt.error);
    row_start.push_back(static_cast<std::int64_t>(token_ids.size()));
    num_tokens.push_back(prompt.num_tokens());
    token_ids.insert(token_ids.end(), prompt.token_ids.begin(), prompt.token_ids.end());
  }
  std::map<std::string, DatasetValues> values = {{kPromptId, std::move(ids)},
                                                 {kNumTokens, std::move(num_tokens)},
                                                 {kPromptError, std::vector<std::string>()},
                                                 {kTokenIds, std::move(token_ids)},
                                                 {kRowStart, std::move(row_start)}};
  for (const Quantity& fact : prompt_facts())
    if (const auto known = values.find(fact.name); known != values.end())
      state.rows.datasets.push_back(dataset_of(fact, std::move(known->second)));
}

void Assembly::add(std::size_t index, const Record& record) {
  const Unit& unit = plan_.units[index];
  const bool failed = !record.error.empty();
  num_units_done_ += !failed;
  if (const BatchWork* batch = unit.of_batch()) {
    // Its rows go straight to the file (write_rows); here, which of its prompts failed, all or alone.
    SetState& state = sets_[batch->set];
    state.failed_units += failed;
    const auto alone = record.texts.find(kPromptErrors);
    SPECTRACE_ASSERT(alone == record.texts.end() || alone->second.size() == batch->prompts.size());
    for (std::size_t i = 0; i < batch->prompts.size(); ++i) {
      if (failed) state.errors[batch->prompts[i]] = record.error;
      if (!failed && alone != record.texts.end()) state.errors[batch->prompts[i]] = alone->second[i];
    }
    return;
  }
  if (failed) {
    failed_units_[unit.analysis()].emplace(index, record.error);
    return;
  }
  if (const RowsWork* rows = unit.of_rows()) {
    if (!rows->is_part) add_joined(*rows->analysis, record);
    return;
  }
  if (const TensorWork* tensor = unit.of_tensor()) return add_tensor(*tensor, record);
  const LayerWork& work = *unit.of_layer();
  for (const auto& [name, array] : record.arrays) {
    auto& target = numbers(weights_.at(work.analysis), name);
    const std::size_t slots = target.size() / static_cast<std::size_t>(model_.num_layers);
    SPECTRACE_ASSERT(array.values.size() == slots);
    std::copy(array.values.begin(), array.values.end(),
              target.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(work.layer) * slots));
  }
}

/// Its singular values may be fewer than the group has room for.
void Assembly::add_tensor(const TensorWork& work, const Record& record) {
  Group& group = weights_.at(work.analysis);
  const std::size_t width = group.find_dimension("index")->size();
  for (const auto& [name, array] : record.arrays) {
    auto& target = numbers(group, name);
    const std::size_t slots = array.shape.empty() ? 1 : width;
    SPECTRACE_ASSERT(array.values.size() <= slots);
    std::copy(array.values.begin(), array.values.end(),
              target.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(work.place) * slots));
  }
}

void Assembly::add_joined(const RowsAnalysis& analysis, const Record& record) {
  Group group = empty_group(*plan_.of_weights.find(analysis.name()), model_, slicing_);
  for (const Quantity* quantity : plan_.of_weights.find(analysis.name())->quantities())
    numbers(group, quantity->name) = record.arrays.at(quantity->name).values;
  weights_[&analysis] = std::move(group);
}

std::vector<Group> Assembly::take_weights() {
  std::vector<Group> groups;
  for (const Chosen& chosen : plan_.of_weights) {
    const auto failed = failed_units_.find(chosen.analysis);
    const auto made = weights_.find(chosen.analysis);
    if (made == weights_.end()) continue;
    groups.push_back(std::move(made->second));
    if (failed == failed_units_.end()) continue;
    groups.back().attributes.emplace_back(kFailedUnitsAttribute, static_cast<std::int64_t>(failed->second.size()));
    groups.back().attributes.emplace_back(kErrorAttribute,
                                          fmt::format("{}", fmt::join(different(failed->second), "\n")));
  }
  return groups;
}

std::vector<std::string> Assembly::errors_without_group() const {
  std::vector<std::string> all;
  for (const auto& [analysis, failed] : failed_units_)
    if (!weights_.contains(analysis))
      for (const auto& error : different(failed)) all.push_back(error);
  return all;
}

std::int64_t Assembly::num_failed_without_group() const {
  std::int64_t units = 0;
  for (const auto& [analysis, failed] : failed_units_)
    if (!weights_.contains(analysis)) units += static_cast<std::int64_t>(failed.size());
  return units;
}

void Assembly::add_failures(SetState& state, const PlannedSet& set, const ResultTree* earlier) const {
  SetFailures failures;
  if (earlier != nullptr) failures = SetFailures(*earlier, set.name);
  failures.forget(set.analyses.names());
  failures.add(set.analyses.names(), state.errors, state.failed_units);
  state.errors.clear();
  for (Dataset& dataset : state.rows.datasets)
    if (dataset.name == kPromptError) dataset.values = failures.of_prompts();
  if (auto by_analysis = failures.by_analysis(); !by_analysis.empty())
    for (const Quantity& fact : prompt_facts())
      if (fact.name == kPromptErrorByAnalysis) state.rows.datasets.push_back(dataset_of(fact, std::move(by_analysis)));
  for (auto& attribute : failures.attributes()) state.rows.attributes.push_back(std::move(attribute));
}

/// Those that are to be kept, and those that the earlier results hold, in the catalogue's order. What is measured now
/// is written anew: the rows of before may lack prompts of units that failed.
void Assembly::add_quantities(SetState& state, const PlannedSet& set, const Group* earlier) const {
  std::set<std::string> measured;
  for (const Chosen& chosen : set.analyses)
    for (const Quantity* quantity : chosen.quantities()) measured.insert(quantity->name);
  for (const Quantity* quantity : prompt_quantities()) {
    const bool is_measured = measured.contains(quantity->name);
    const bool was_held = earlier != nullptr && earlier->find(quantity->name) != nullptr;
    if (!was_held && !(is_measured && is_kept(*quantity, keep_))) continue;
    if (!is_measured) state.copied.insert(quantity->name);
    state.rows.datasets.push_back(dataset_of(*quantity, std::vector<double>()));
    state.rows.datasets.back().in_rows = true;
  }
}

void Assembly::add_dimensions(SetState& state, const PlannedSet& set, const Group* earlier) const {
  auto& dimensions = state.rows.dimensions;
  dimensions.push_back(common_dimension("prompt", counted(static_cast<std::int64_t>(set.prompts.size()))));
  dimensions.push_back(common_dimension("layer", counted(model_.num_layers)));
  dimensions.push_back(common_dimension("head", counted(model_.num_heads)));
  dimensions.push_back(common_dimension("boundary", counted(model_.num_layers + 1)));
  for (const Analysis* analysis : catalogue()) {
    if (!analysis->info().group.empty()) continue;
    const Chosen* chosen = set.analyses.find(analysis->name());
    // Statistics may have a dimension that no stored quantity has.
    const auto is_used = [&](const std::string& dim) {
      const auto& quantities = analysis->info().quantities;
      return has_dimension(state.rows, dim) ||
             (chosen != nullptr && std::any_of(quantities.begin(), quantities.end(), [&](const Quantity& quantity) {
                return quantity.has_statistics && quantity.dims.back() == dim;
              }));
    };
    for (const DimensionInfo& info : analysis->info().dimensions) {
      const Dimension* before = earlier == nullptr ? nullptr : earlier->find_dimension(info.name);
      if (before != nullptr) {
        dimensions.push_back(*before);
      } else if (chosen != nullptr && is_used(info.name)) {
        for (const auto& dimension : analysis->dimensions({model_, slicing_, chosen->settings, state.longest_prompt}))
          if (dimension.info.name == info.name) dimensions.push_back(dimension_of(dimension));
      }
    }
  }
  std::int64_t num_tokens = 0;
  for (const Dataset& dataset : state.rows.datasets)
    if (dataset.name == kTokenIds)
      num_tokens = static_cast<std::int64_t>(std::get<std::vector<std::int64_t>>(dataset.values).size());
  dimensions.push_back(common_dimension("token", counted(num_tokens)));
}

Group Assembly::take_set_group(std::size_t s, const ResultTree* earlier) {
  SetState& state = sets_[s];
  const PlannedSet& set = plan_.sets[s];
  const Group* before = earlier == nullptr ? nullptr : earlier->find(state.rows.path);
  add_failures(state, set, earlier);
  add_quantities(state, set, before);
  add_dimensions(state, set, before);
  for (const Dataset& dataset : state.rows.datasets)
    if (dataset.in_rows && !state.copied.contains(dataset.name))
      state.row_sizes.emplace_back(dataset.name, num_slots(state.rows, dataset));
  // What rows and statistics have in common.
  state.statistics.dimensions.push_back(common_dimension("statistic", statistic_names()));
  for (const Dimension& dimension : state.rows.dimensions) {
    if (dimension.name == "prompt" || dimension.name == "token") continue;
    const auto quantities = prompt_quantities();
    const bool is_common = dimension.name == "layer" || dimension.name == "head" || dimension.name == "boundary";
    if (is_common || std::any_of(quantities.begin(), quantities.end(), [&](const Quantity* quantity) {
          return quantity->has_statistics && quantity->dims.back() == dimension.name;
        }))
      state.statistics.dimensions.push_back(dimension);
  }
  Group whole = std::move(state.rows);
  state.rows = without_values(whole);
  return whole;
}

void Assembly::write_rows(std::size_t set, const BatchWork* batch, const Record& record, ResultFileWriter& writer) {
  SetState& state = sets_[set];
  std::size_t& next = state.next_prompt;
  const std::size_t end = batch == nullptr ? plan_.sets[set].prompts.size() : batch->prompts.back() + 1;
  const std::size_t slots_of_all =
      std::accumulate(state.row_sizes.begin(), state.row_sizes.end(), std::size_t{1},
                      [](std::size_t sum, const auto& quantity) { return sum + quantity.second; });
  // In pieces: beside the record no copy of all its rows is needed. The datasets side by side, as the writer needs
  // them.
  const std::size_t piece = std::max<std::size_t>(1, kMostRowValues / slots_of_all);
  for (; next < end; next = std::min(end, next + piece))
    for (const auto& [name, slots] : state.row_sizes) {
      const Dataset& dataset = *state.rows.find(name);
      const std::size_t width = dataset.dims.size() == 1 ? 1 : state.rows.find_dimension(dataset.dims.back())->size();
      writer.write_rows(state.rows.path, name,
                        rows_of(name, slots, width, batch, record, next, std::min(end, next + piece)));
    }
}

void Assembly::add_statistics(std::size_t set, const Quantity& quantity, std::vector<double> values) {
  sets_[set].values_of_statistics[quantity.name] = std::move(values);
}

Group Assembly::take_statistics(std::size_t s, const Group* earlier) {
  SetState& state = sets_[s];
  Group& statistics = state.statistics;
  for (const Quantity* quantity : prompt_quantities()) {
    const auto now = state.values_of_statistics.find(quantity->name);
    const Dataset* before = earlier == nullptr ? nullptr : earlier->find(quantity->name);
    if (now != state.values_of_statistics.end())
      statistics.datasets.push_back(statistics_of(*quantity, std::move(now->second)));
    else if (before != nullptr)
      statistics.datasets.push_back(*before);
  }
  return std::move(statistics);
}

}  // namespace spectrace
