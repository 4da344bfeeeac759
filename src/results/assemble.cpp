#include "spectrace/results/assemble.hpp"

#include <algorithm>
#include <numeric>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"
#include "spectrace/results/result_attributes.hpp"

namespace spectrace {
namespace {

Dimension make_dimension(const std::string& name, Coordinate values) {
  const DatasetSpec spec = dimension_spec(name);
  return {name, std::move(values), spec.units, spec.long_name};
}

Dimension counted_dimension(const std::string& name, std::int64_t size) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(size));
  std::iota(values.begin(), values.end(), 0);
  return make_dimension(name, std::move(values));
}

std::size_t num_slots(const Group& group, const std::vector<std::string>& dims) {
  std::size_t slots = 1;
  for (const auto& dim : dims) slots *= group.find_dimension(dim)->size();
  return slots;
}

Dataset make_dataset(const DatasetSpec& spec, DatasetValues values) {
  return {spec.name, spec.dims, spec.units, spec.long_name, std::move(values)};
}

/// A float64 dataset of a group whose dimensions stand, every slot NaN.
void add_empty(Group& group, const DatasetSpec& spec) {
  group.datasets.push_back(make_dataset(spec, std::vector<double>(num_slots(group, spec.dims), kNaN)));
}

std::vector<double>& numbers(Group& group, const std::string& name) {
  for (auto& dataset : group.datasets)
    if (dataset.name == name) return std::get<std::vector<double>>(dataset.values);
  SPECTRACE_ASSERT(false);
  throw std::logic_error("no dataset " + name);
}

std::vector<std::string> matrix_names() { return {kMatrixNames.begin(), kMatrixNames.end()}; }

std::int64_t longest_prompt(const PreparedSet& set) {
  std::size_t longest = 0;
  for (const auto& prompt : set.prompts)
    if (prompt.error.empty()) longest = std::max(longest, prompt.token_ids.size());
  return static_cast<std::int64_t>(longest);
}

bool is_chosen(const PromptAnalyses& analyses, const PromptQuantity& quantity) {
  if (quantity.dataset.name == "graph_eigenvalues") return analyses.sheaf && analyses.graph_eigenvalues;
  switch (quantity.analysis) {
    case Analysis::attention: return analyses.attention;
    case Analysis::sheaf: return analyses.sheaf;
    default: return analyses.residual;
  }
}

/// Values that are brought into the file's form at once: 16 MiB.
constexpr std::size_t kMostRowValues = std::size_t{1} << 21;

/// Mean over prompts by layer of a quantity (prompt, layer), from its statistics.
std::vector<double> layer_means(const Group& statistics, const std::string& name) {
  const Dataset* dataset = statistics.find(name);
  if (dataset == nullptr) return {};
  const auto& values = std::get<std::vector<double>>(dataset->values);
  const std::size_t slots = values.size() / statistic_names().size();
  return {values.begin() + static_cast<std::ptrdiff_t>(2 * slots),
          values.begin() + static_cast<std::ptrdiff_t>(3 * slots)};
}

void add_scalars(Group& statistics) {
  const auto gains = layer_means(statistics, "gain");
  const auto after_norm = layer_means(statistics, "last_gain_after_norm");
  const auto trace = layer_means(statistics, "trace_multihead");
  const auto entropy = layer_means(statistics, "flat_entropy_mean_attention");
  for (const auto& spec : statistics_scalars_schema()) {
    double value = kNaN;  // effective_amplification is put in when the unembedding is there too
    if (spec.name == "last_gain_mean" && !gains.empty()) value = gains.back();
    if (spec.name == "last_gain_after_norm_mean" && !after_norm.empty()) value = after_norm.front();
    if (spec.name == "l_star_trace" && !trace.empty()) value = l_star_trace(trace);
    if (spec.name == "l_star_sign_change" && !trace.empty()) value = l_star_sign_change(trace);
    if (spec.name == "l_star_entropy" && !entropy.empty()) value = l_star_entropy(entropy);
    statistics.datasets.push_back(make_dataset(spec, std::vector<double>{value}));
  }
}

/// Prompts [first, last) of a set as a dataset has them, `slots` values each: from the record of a batch, if there is
/// one.
std::vector<double> rows_of(const std::string& name, std::size_t slots, const Unit* unit, const Record& record,
                            std::size_t first, std::size_t last) {
  std::vector<double> rows((last - first) * slots, kNaN);  // of prompts that did not run: NaN
  if (unit == nullptr || !record.error.empty()) return rows;
  const Array& array = record.arrays.at(name);
  const std::size_t found = array.values.size() / unit->prompts.size();
  // graph_eigenvalues: the batch's longest prompt may be shorter than the set's; rows are padded then.
  const auto width = name == "graph_eigenvalues" ? static_cast<std::size_t>(array.shape.back()) : found;
  const std::size_t lines = width == 0 ? 0 : found / width, target_width = lines == 0 ? 0 : slots / lines;
  for (std::size_t i = 0; i < unit->prompts.size(); ++i) {
    if (unit->prompts[i] < first || unit->prompts[i] >= last) continue;
    for (std::size_t line = 0; line < lines; ++line)
      std::copy_n(array.values.begin() + static_cast<std::ptrdiff_t>(i * found + line * width), width,
                  rows.begin() + static_cast<std::ptrdiff_t>((unit->prompts[i] - first) * slots + line * target_width));
  }
  return rows;
}

}  // namespace

std::vector<std::int64_t> slot_shape(const DatasetSpec& spec, const ModelDescription& model, std::int64_t num_beta,
                                     std::int64_t longest) {
  std::vector<std::int64_t> shape;
  for (const auto& dim : spec.dims) {
    if (dim == "layer") shape.push_back(model.num_layers);
    if (dim == "head") shape.push_back(model.num_heads);
    if (dim == "boundary") shape.push_back(model.num_layers + 1);
    if (dim == "beta") shape.push_back(num_beta);
    if (dim == "graph_index") shape.push_back(longest);
  }
  return shape;
}

std::vector<const PromptQuantity*> quantities_of(const PromptAnalyses& analyses) {
  std::vector<const PromptQuantity*> chosen;
  for (const auto& quantity : prompt_schema())
    if (is_chosen(analyses, quantity)) chosen.push_back(&quantity);
  return chosen;
}

void for_each_free_energy(const Array& log_partition, const std::vector<double>& beta,
                          const std::function<void(const Array&)>& visit) {
  const auto num_prompts = static_cast<std::size_t>(log_partition.shape.front());
  const std::size_t slots = num_prompts == 0 ? 0 : log_partition.values.size() / num_prompts;
  const std::size_t piece = std::max<std::size_t>(1, kMostRowValues / std::max<std::size_t>(1, slots));
  for (std::size_t first = 0; first < num_prompts; first += piece) {
    const std::size_t last = std::min(num_prompts, first + piece);
    Array energy{log_partition.shape, {}};
    energy.shape.front() = static_cast<std::int64_t>(last - first);
    energy.values.reserve((last - first) * slots);
    for (std::size_t i = first * slots; i < last * slots; ++i)
      energy.values.push_back(-log_partition.values[i] / beta[i % beta.size()]);
    visit(energy);
  }
}

Assembly::Assembly(const ModelDescription& model, const ModelPlan& plan, Slicing slicing,
                   const PromptAnalyses& analyses, const KeepChoice& keep)
    : model_(model), plan_(plan), analyses_(analyses), keep_(keep) {
  if (plan.analyses.weights) {
    weights_.path = "/weights";
    start_layer_group(weights_, weights_schema(), 0);
  }
  if (plan.analyses.heads) {
    heads_.path = "/heads";
    start_layer_group(heads_, heads_schema(), head_index_size(model, slicing));
    std::vector<std::int64_t> kv_heads;
    for (std::int64_t h = 0; h < model.num_heads; ++h)
      kv_heads.push_back(static_cast<std::int64_t>(model.kv_head_of(QueryHead{h})));
    heads_.datasets.push_back(
        {"kv_head_of_head", {"head"}, "1", "Key/value head that the query head uses", std::move(kv_heads)});
  }
  for (std::size_t s = 0; s < plan.sets.size(); ++s) start_set(s);
}

void Assembly::start_layer_group(Group& group, const std::vector<DatasetSpec>& schema, std::int64_t index_size) {
  const bool has_heads = group.path == "/heads";
  if (!has_heads) index_size = std::min(model_.num_heads * model_.head_dim, model_.hidden_size);
  group.dimensions.push_back(counted_dimension("layer", model_.num_layers));
  group.dimensions.push_back(make_dimension("matrix", matrix_names()));
  if (has_heads) group.dimensions.push_back(counted_dimension("head", model_.num_heads));
  group.dimensions.push_back(counted_dimension("index", index_size));
  for (const auto& spec : schema) add_empty(group, spec);
}

void Assembly::start_set(std::size_t s) {
  const PreparedSet& set = plan_.sets[s];
  SetGroups& groups = sets_.emplace_back();
  Group& group = groups.prompts;
  group.path = "/prompts/" + set.name;
  group.attributes.emplace_back("prompt_sha256", set.digest());

  std::vector<std::string> ids, errors;
  std::vector<std::int64_t> num_tokens, token_ids, row_start;
  std::size_t num_all_tokens = 0;
  for (const auto& prompt : set.prompts) num_all_tokens += prompt.token_ids.size();
  token_ids.reserve(num_all_tokens);
  for (auto* texts : {&ids, &errors}) texts->reserve(set.prompts.size());
  for (auto* numbers : {&num_tokens, &row_start}) numbers->reserve(set.prompts.size());
  for (const auto& prompt : set.prompts) {
    ids.push_back(prompt.id);
    errors.push_back(prompt.error);
    row_start.push_back(static_cast<std::int64_t>(token_ids.size()));
    num_tokens.push_back(static_cast<std::int64_t>(prompt.token_ids.size()));
    token_ids.insert(token_ids.end(), prompt.token_ids.begin(), prompt.token_ids.end());
  }
  prompt_errors_.push_back(std::move(errors));

  group.dimensions.push_back(counted_dimension("prompt", static_cast<std::int64_t>(set.prompts.size())));
  group.dimensions.push_back(counted_dimension("layer", model_.num_layers));
  group.dimensions.push_back(counted_dimension("head", model_.num_heads));
  group.dimensions.push_back(counted_dimension("boundary", model_.num_layers + 1));
  if (analyses_.sheaf) group.dimensions.push_back(make_dimension("beta", analyses_.beta));
  const auto quantities = quantities_of(analyses_);
  if (std::any_of(quantities.begin(), quantities.end(), [&](const auto* quantity) {
        return quantity->dataset.name == "graph_eigenvalues" && is_kept(*quantity, keep_);
      }))
    group.dimensions.push_back(counted_dimension("graph_index", longest_prompt(set)));
  group.dimensions.push_back(counted_dimension("token", static_cast<std::int64_t>(token_ids.size())));

  group.datasets.push_back({"prompt_id", {"prompt"}, "1", "Name of the prompt", std::move(ids)});
  group.datasets.push_back({"num_tokens", {"prompt"}, "1", "Tokens of the prompt", std::move(num_tokens)});
  group.datasets.push_back(
      {"token_ids", {"token"}, "1", "Token ids of all prompts, one after the other", std::move(token_ids)});
  group.datasets.push_back(
      {"row_start", {"prompt"}, "1", "Place of the prompt's first token in token_ids", std::move(row_start)});
  for (const auto* quantity : quantities) {
    if (!is_kept(*quantity, keep_)) continue;
    group.datasets.push_back(make_dataset(quantity->dataset, std::vector<double>()));
    group.datasets.back().in_rows = true;
  }

  Group& statistics = groups.statistics;
  statistics.path = group.path + "/statistics";
  statistics.dimensions.push_back(make_dimension("statistic", statistic_names()));
  for (const auto& dimension : group.dimensions)
    if (dimension.name == "layer" || dimension.name == "head" || dimension.name == "boundary" ||
        dimension.name == "beta")
      statistics.dimensions.push_back(dimension);
}

std::string Assembly::group_of(const Unit& unit) const {
  switch (unit.kind) {
    case UnitKind::matrices: return "/weights";
    case UnitKind::heads: return "/heads";
    case UnitKind::unembedding: return "/unembedding";
    case UnitKind::prompts: break;
  }
  return "/prompts/" + plan_.sets[unit.set].name;
}

void Assembly::add(std::size_t index, const Record& record) {
  const Unit& unit = plan_.units[index];
  if (!record.error.empty()) {
    unit_errors_.emplace_back(index, record.error);
    ++failed_units_[group_of(unit)];
    if (unit.kind == UnitKind::prompts)
      for (const std::size_t prompt : unit.prompts) prompt_errors_[unit.set][prompt] = record.error;
    return;
  }
  ++num_units_done_;
  switch (unit.kind) {
    case UnitKind::matrices:
    case UnitKind::heads: {
      Group& group = unit.kind == UnitKind::heads ? heads_ : weights_;
      for (const auto& [name, array] : record.arrays) {
        auto& target = numbers(group, name);
        const std::size_t slots = target.size() / static_cast<std::size_t>(model_.num_layers);
        SPECTRACE_ASSERT(array.values.size() == slots);
        std::copy(array.values.begin(), array.values.end(),
                  target.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(unit.layer) * slots));
      }
      return;
    }
    case UnitKind::unembedding:
      if (!is_part(unit, model_)) add_unembedding(record);
      return;
    case UnitKind::prompts: {
      // Its rows go straight to the file (write_rows); here, which of its prompts failed alone.
      const auto errors = record.texts.find("prompt_errors");
      if (errors == record.texts.end()) return;
      SPECTRACE_ASSERT(errors->second.size() == unit.prompts.size());
      for (std::size_t i = 0; i < unit.prompts.size(); ++i)
        prompt_errors_[unit.set][unit.prompts[i]] = errors->second[i];
      return;
    }
  }
}

void Assembly::add_unembedding(const Record& record) {
  unembedding_.path = "/unembedding";
  const auto size_of = [&](const char* name) { return record.arrays.at(name).shape.at(0); };
  unembedding_.dimensions.push_back(counted_dimension("index", size_of("singular_values")));
  unembedding_.dimensions.push_back(counted_dimension("token", size_of("row_norm")));
  for (const auto& spec : unembedding_schema())
    unembedding_.datasets.push_back(make_dataset(spec, record.arrays.at(spec.name).values));
}

void Assembly::write_rows(std::size_t set, const Unit* unit, const Record& record, ResultFileWriter& writer) {
  std::size_t& next = sets_[set].next_prompt;
  const std::size_t end = unit == nullptr ? plan_.sets[set].prompts.size() : unit->prompts.back() + 1;
  const auto& sizes = sets_[set].row_sizes;
  const std::size_t slots_of_all = std::accumulate(sizes.begin(), sizes.end(), std::size_t{1},
                                                   [](std::size_t sum, const auto& one) { return sum + one.second; });
  // In pieces: beside the record no copy of all its rows is needed. The datasets side by side, as the writer needs
  // them.
  const std::size_t piece = std::max<std::size_t>(1, kMostRowValues / slots_of_all);
  for (; next < end; next = std::min(end, next + piece))
    for (const auto& [name, slots] : sizes)
      writer.write_rows("/prompts/" + plan_.sets[set].name, name,
                        rows_of(name, slots, unit, record, next, std::min(end, next + piece)));
}

void Assembly::add_statistics(std::size_t set, const std::string& quantity, const QuantityStatistics& statistics) {
  for (const auto& entry : prompt_schema())
    if (entry.dataset.name == quantity) {
      DatasetSpec spec = entry.dataset;
      spec.dims.front() = "statistic";
      sets_[set].statistics.datasets.push_back(make_dataset(spec, statistics.values));
    }
}

Group Assembly::take_set_group(std::size_t s) {
  SetGroups& set = sets_[s];
  std::size_t num_bad = 0;
  for (const auto& error : prompt_errors_[s]) num_bad += !error.empty();
  if (num_bad > 0) {
    const auto first = static_cast<std::size_t>(
        std::find_if(prompt_errors_[s].begin(), prompt_errors_[s].end(), [](const auto& e) { return !e.empty(); }) -
        prompt_errors_[s].begin());
    errors_.push_back("prompt set '" + plan_.sets[s].name + "': " + std::to_string(num_bad) + " of " +
                      std::to_string(prompt_errors_[s].size()) + " prompts failed, the first is '" +
                      plan_.sets[s].prompts[first].id + "': " + prompt_errors_[s][first]);
  }
  set.prompts.datasets.insert(
      set.prompts.datasets.begin() + 2,
      {"prompt_error", {"prompt"}, "1", "Why the prompt could not run; empty if it did", std::move(prompt_errors_[s])});
  mark_failed(set.prompts);
  for (const auto& dataset : set.prompts.datasets)
    if (dataset.in_rows)
      set.row_sizes.emplace_back(dataset.name, num_slots(set.prompts, {dataset.dims.begin() + 1, dataset.dims.end()}));
  return std::move(set.prompts);
}

Group Assembly::take_statistics(std::size_t s) {
  add_scalars(sets_[s].statistics);
  return std::move(sets_[s].statistics);
}

void Assembly::mark_failed(Group& group) const {
  if (const auto failed = failed_units_.find(group.path); failed != failed_units_.end())
    group.attributes.emplace_back(kFailedUnitsAttribute, failed->second);
}

std::vector<Group> Assembly::take_weights() {
  std::sort(unit_errors_.begin(), unit_errors_.end());
  for (const auto& [unit, error] : unit_errors_)
    if (plan_.units[unit].kind != UnitKind::prompts &&
        std::find(errors_.begin(), errors_.end(), error) == errors_.end())
      errors_.push_back(error);
  std::vector<Group> groups;
  for (Group* group : {&weights_, &heads_, &unembedding_}) {
    if (group->path.empty()) continue;
    mark_failed(*group);
    groups.push_back(std::move(*group));
  }
  return groups;
}

}  // namespace spectrace
