#include "spectrace/results/assembly.hpp"

#include <algorithm>
#include <numeric>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/results/growth.hpp"

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

const std::vector<std::string>* texts(const Group* group, const char* name) {
  const Dataset* dataset = group == nullptr ? nullptr : group->find(name);
  return dataset == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&dataset->values);
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
    if (chosen.of_layers() != nullptr) weights_[chosen.analysis] = empty_group(chosen, model, slicing);
  for (const PlannedSet& set : plan.sets) start_set(set);
}

void Assembly::start_set(const PlannedSet& set) {
  SetState& state = sets_.emplace_back();
  state.rows.path = group_of_set(set.name);
  state.rows.attributes.emplace_back("prompt_sha256", set.digest());
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
  const std::map<std::string, DatasetValues> values = {{kPromptId, std::move(ids)},
                                                       {kNumTokens, std::move(num_tokens)},
                                                       {kPromptError, std::vector<std::string>()},
                                                       {kTokenIds, std::move(token_ids)},
                                                       {kRowStart, std::move(row_start)}};
  for (const Quantity& fact : prompt_facts()) state.rows.datasets.push_back(dataset_of(fact, values.at(fact.name)));
}

void Assembly::add(std::size_t index, const Record& record) {
  const Unit& unit = plan_.units[index];
  const bool failed = !record.error.empty();
  if (failed)
    unit_errors_.emplace_back(index, record.error);
  else
    ++num_units_done_;
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
    ++failed_units_[unit.analysis()];
    return;
  }
  if (const RowsWork* rows = unit.of_rows()) {
    if (!rows->is_part) add_joined(*rows->analysis, record);
    return;
  }
  const LayerWork& work = *unit.of_layer();
  for (const auto& [name, array] : record.arrays) {
    auto& target = numbers(weights_.at(work.analysis), name);
    const std::size_t slots = target.size() / static_cast<std::size_t>(model_.num_layers);
    SPECTRACE_ASSERT(array.values.size() == slots);
    std::copy(array.values.begin(), array.values.end(),
              target.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(work.layer) * slots));
  }
}

void Assembly::add_joined(const RowsAnalysis& analysis, const Record& record) {
  Group group = empty_group(*plan_.of_weights.find(analysis.name()), model_, slicing_);
  for (const auto& quantity : analysis.info().quantities)
    numbers(group, quantity.name) = record.arrays.at(quantity.name).values;
  weights_[&analysis] = std::move(group);
}

std::vector<Group> Assembly::take_weights() {
  std::vector<Group> groups;
  for (const Chosen& chosen : plan_.of_weights) {
    const auto group = weights_.find(chosen.analysis);
    if (group == weights_.end()) continue;
    if (const auto failed = failed_units_.find(chosen.analysis); failed != failed_units_.end())
      group->second.attributes.emplace_back(kFailedUnitsAttribute, failed->second);
    groups.push_back(std::move(group->second));
  }
  return groups;
}

std::vector<std::string> Assembly::unit_errors() const {
  auto sorted = unit_errors_;
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::string> errors;
  for (const auto& [unit, error] : sorted)
    if (plan_.units[unit].of_batch() == nullptr && std::find(errors.begin(), errors.end(), error) == errors.end())
      errors.push_back(error);
  return errors;
}

/// What failed before counts as long as something of it stays; the units that failed are done again by whoever asks for
/// their analyses.
void Assembly::merge_errors(SetState& state, const PlannedSet& set, const ResultTree* earlier) const {
  const Group* before = earlier == nullptr ? nullptr : earlier->find(state.rows.path);
  const auto* errors = texts(before, kPromptError);
  const Group* statistics = earlier == nullptr ? nullptr : earlier->find(state.statistics.path);
  if (errors == nullptr || errors->size() != state.errors.size() || statistics == nullptr) return;
  const auto quantities = prompt_quantities();
  const bool any_stays = std::any_of(quantities.begin(), quantities.end(), [&](const Quantity* quantity) {
    const auto is_redone = [&](const Chosen& chosen) {
      return chosen.analysis->find_quantity(quantity->name) != nullptr;
    };
    return statistics->find(quantity->name) != nullptr &&
           std::none_of(set.analyses.begin(), set.analyses.end(), is_redone);
  });
  if (!any_stays) return;
  const auto failed = failed_analyses(*earlier, *before);
  const bool all_are_redone =
      std::all_of(failed.begin(), failed.end(), [&](const auto& name) { return set.analyses.has(name); });
  if (!failed.empty() && all_are_redone) return;
  for (std::size_t i = 0; i < errors->size(); ++i)
    if (state.errors[i].empty()) state.errors[i] = (*errors)[i];
}

void Assembly::mark_failed(SetState& state, const PlannedSet& set, const ResultTree* earlier) const {
  std::int64_t units = state.failed_units;
  std::vector<std::string> names;
  if (units > 0) names = set.analyses.names();
  if (const Group* before = earlier == nullptr ? nullptr : earlier->find(state.rows.path)) {
    bool any_stays = false;
    for (const auto& name : failed_analyses(*earlier, *before)) {
      if (set.analyses.has(name)) continue;
      any_stays = true;
      names.push_back(name);
    }
    if (any_stays) units += num_failed_units(*before);
  }
  if (units == 0) return;
  std::string text;
  for (const auto& name : analysis_names())
    if (std::find(names.begin(), names.end(), name) != names.end()) text += (text.empty() ? "" : " ") + name;
  state.rows.attributes.emplace_back(kFailedUnitsAttribute, units);
  state.rows.attributes.emplace_back(kFailedAnalysesAttribute, text);
}

/// Those that were measured now and are kept, and those that the earlier results hold, in the catalogue's order.
void Assembly::add_quantities(SetState& state, const PlannedSet& set, const Group* earlier) const {
  std::set<std::string> measured;
  for (const Chosen& chosen : set.analyses)
    for (const Quantity* quantity : chosen.quantities())
      if (is_kept(*quantity, keep_)) measured.insert(quantity->name);
  for (const Quantity* quantity : prompt_quantities()) {
    const bool is_measured = measured.contains(quantity->name);
    if (!is_measured && (earlier == nullptr || earlier->find(quantity->name) == nullptr)) continue;
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
  add_quantities(state, set, before);
  merge_errors(state, set, earlier);
  mark_failed(state, set, earlier);
  for (Dataset& dataset : state.rows.datasets)
    if (dataset.name == kPromptError) dataset.values = std::move(state.errors);
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
  return state.rows;
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
  for (const SetScalar* scalar : set_scalars()) {
    const auto is_of = [&](const Analysis* analysis) {
      const auto& scalars = analysis->info().scalars;
      return std::any_of(scalars.begin(), scalars.end(), [&](const SetScalar& one) { return &one == scalar; });
    };
    const Analysis* analysis = *std::find_if(catalogue().begin(), catalogue().end(), is_of);
    const bool is_there = analysis->info().is_default || plan_.sets[s].analyses.has(analysis->name()) ||
                          (earlier != nullptr && earlier->find(scalar->quantity.name) != nullptr);
    if (is_there) statistics.datasets.push_back(dataset_of(scalar->quantity, std::vector<double>{kNaN}));
  }
  return std::move(statistics);
}

std::vector<std::string> prompt_errors_in(const ResultTree& tree) {
  std::vector<std::string> lines;
  for (const Group& group : tree.groups) {
    const auto *errors = texts(&group, kPromptError), *ids = texts(&group, kPromptId);
    if (errors == nullptr || ids == nullptr) continue;
    const auto has_error = [](const std::string& error) { return !error.empty(); };
    const auto first = std::find_if(errors->begin(), errors->end(), has_error);
    if (first == errors->end()) continue;
    lines.push_back("prompt set '" + group.path.substr(group_of_set("").size()) +
                    "': " + std::to_string(std::count_if(errors->begin(), errors->end(), has_error)) + " of " +
                    std::to_string(errors->size()) + " prompts failed, the first is '" +
                    (*ids)[static_cast<std::size_t>(first - errors->begin())] + "': " + *first);
  }
  return lines;
}

}  // namespace spectrace
