#include "spectrace/measure/catalogue.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include "spectrace/core/error.hpp"
#include "spectrace/core/floats.hpp"

namespace spectrace {

// analyses.inc has a line SPECTRACE_ANALYSIS(name) for each file of src/measure/analyses; the build writes it.
#define SPECTRACE_ANALYSIS(name) const Analysis& name##_analysis();
#include "analyses.inc"
#undef SPECTRACE_ANALYSIS

namespace {

std::vector<const Analysis*> make_catalogue() {
  std::vector<const Analysis*> all = {
#define SPECTRACE_ANALYSIS(name) &name##_analysis(),
#include "analyses.inc"
#undef SPECTRACE_ANALYSIS
  };
  std::sort(all.begin(), all.end(),
            [](const Analysis* a, const Analysis* b) { return a->info().place < b->info().place; });
  expect_unique(all);
  return all;
}

/// Letters to insert, to take out or to change, at least (Levenshtein 1966).
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

void expect_unique(const std::vector<const Analysis*>& analyses) {
  std::set<std::string> seen;
  const auto expect_new = [&](const std::string& what) {
    if (!seen.insert(what).second) throw InternalError("two analyses have the same " + what);
  };
  for (const Analysis* analysis : analyses) {
    const AnalysisInfo& info = analysis->info();
    const auto expect_new_dataset = [&](const std::string& group, const Quantity& quantity) {
      expect_new("dataset " + (group.empty() ? "of prompts '" : "'" + group + "/") + quantity.name + "'");
    };
    expect_new("name '" + info.name + "'");
    expect_new("place " + std::to_string(info.place));
    for (const Quantity& quantity : info.quantities) expect_new_dataset(info.group, quantity);
    for (const Quantity& quantity : info.set_quantities)
      expect_new_dataset(group_of_set_numbers("<set>", info.name), quantity);
    for (const Fact& fact : info.facts) expect_new_dataset(info.group, fact.quantity);
    // Beside the prompts' statistics, which have the names of what they are of.
    for (const SetScalar& scalar : info.scalars) expect_new_dataset("", scalar.quantity);
    for (const SummaryColumn& column : info.summary) expect_new("column '" + column.name + "' of the summary");
  }
}

const std::vector<const Analysis*>& catalogue() {
  static const std::vector<const Analysis*> all = make_catalogue();
  return all;
}

const Analysis* find_analysis(const std::string& name) {
  for (const Analysis* analysis : catalogue())
    if (analysis->name() == name) return analysis;
  return nullptr;
}

std::vector<std::string> analysis_names() {
  std::vector<std::string> names;
  for (const Analysis* analysis : catalogue()) names.push_back(analysis->name());
  return names;
}

Json impossible_analyses(const ModelDescription& model) {
  Json reasons = Json::object();
  for (const Analysis* analysis : catalogue())
    if (const std::string why = analysis->lacks(model); !why.empty()) reasons[analysis->name()] = why;
  return reasons;
}

const std::vector<DimensionInfo>& common_dimensions() {
  static const std::vector<DimensionInfo> dimensions = {
      {"layer", "Block of the model, from 0"},
      {"head", "Query head, from 0"},
      {"index", "Place of the singular value, largest first, from 0"},
      {"token", "Token id (unembedding) or place in the row of all prompts' tokens"},
      {"prompt", "Prompt, in the order of the set, from 0"},
      {"boundary", "0: what enters the first block; b: what leaves block b - 1"},
      {"statistic", "Statistic over the prompts"},
      {"row", "Model and prompt set"},
      {"tensor", "Tensor of the checkpoint"},
  };
  return dimensions;
}

const DimensionInfo& dimension_info(const std::string& name) {
  for (const DimensionInfo& dimension : common_dimensions())
    if (dimension.name == name) return dimension;
  for (const Analysis* analysis : catalogue())
    for (const DimensionInfo& dimension : analysis->info().dimensions)
      if (dimension.name == name) return dimension;
  SPECTRACE_ASSERT(false);
  return common_dimensions().front();
}

std::vector<std::string> nearest_names(const std::string& misspelt, const std::vector<std::string>& names) {
  constexpr std::size_t kMostShown = 3;
  std::vector<std::string> near;
  // A third of the letters may be others, or one is the beginning of the other.
  const std::size_t most = std::max<std::size_t>(1, misspelt.size() / 3);
  for (const auto& name : names)
    if (edit_distance(misspelt, name) <= most ||
        (misspelt.size() >= 4 && (name.starts_with(misspelt) || misspelt.starts_with(name))))
      near.push_back(name);
  std::stable_sort(near.begin(), near.end(), [&](const auto& a, const auto& b) {
    return edit_distance(misspelt, a) < edit_distance(misspelt, b);
  });
  // Those that are much farther than the nearest one are not meant.
  if (!near.empty()) {
    const std::size_t least = edit_distance(misspelt, near.front());
    std::erase_if(near, [&](const std::string& name) { return edit_distance(misspelt, name) > least + 1; });
  }
  near.resize(std::min(near.size(), kMostShown));
  return near;
}

std::string did_you_mean(const std::string& misspelt, const std::vector<std::string>& names) {
  const auto near = nearest_names(misspelt, names);
  if (near.empty()) return "";
  std::string text;
  for (std::size_t i = 0; i < near.size(); ++i)
    text += (i == 0 ? "" : i + 1 == near.size() ? " or " : ", ") + ("'" + near[i] + "'");
  return "Did you mean " + text + "?";
}

InputError unknown_name(const std::string& kind, const std::string& misspelt, const std::vector<std::string>& names) {
  const std::string near = did_you_mean(misspelt, names);
  return InputError(ErrorKind::usage, "no " + kind + " is called '" + misspelt + "'",
                    near.empty() ? quoted_list(names) : "", near);
}

const Quantity* Analysis::find_quantity(const std::string& quantity) const {
  for (const Quantity& known : info_.quantities)
    if (known.name == quantity) return &known;
  return nullptr;
}

Settings Analysis::complete(const std::optional<JsonNode>& section) const {
  Settings settings = section ? section->json() : Json::object();
  if (info_.section_schema.is_object())
    for (const auto& [key, schema] : info_.section_schema.items())
      if (!settings.contains(key) && schema.contains("default")) settings[key] = schema.at("default");
  return settings;
}

std::string Analysis::lacks(const ModelDescription& model) const {
  if (needs_family() && !model.no_family.empty()) return model.no_family;
  if (std::string why = lacks_by_family(model.limits); !why.empty()) return why;
  return find_lack(model);
}

std::string find_lack_of_head(const ModelDescription& model) {
  if (model.embedding.has_unembedding) return "";
  return "the checkpoint has no '" + model.embedding.unembedding.tensor + "', and its config does not tie it";
}

PromptWants operator|(const PromptWants& a, const PromptWants& b) {
  return {.norms = a.norms || b.norms,
          .last_tokens = a.last_tokens || b.last_tokens,
          .boundaries = a.boundaries || b.boundaries,
          .entering = a.entering || b.entering,
          .writes = a.writes || b.writes,
          .attention = a.attention || b.attention,
          .mean_attention = a.mean_attention || b.mean_attention,
          .graph_spectra = a.graph_spectra || b.graph_spectra,
          .value_spectra = a.value_spectra || b.value_spectra,
          .scores = a.scores || b.scores,
          .predictions = a.predictions || b.predictions};
}

std::string group_of_set(const std::string& set) { return "/prompts/" + set; }
std::string group_of_statistics(const std::string& set) { return group_of_set(set) + "/statistics"; }
std::string group_of_set_numbers(const std::string& set, const std::string& analysis) {
  return group_of_set(set) + "/" + analysis;
}

const std::vector<std::string>& statistic_names() {
  static const std::vector<std::string> names = {"count", "nonfinite", "mean", "std", "min", "max"};
  return names;
}

std::vector<double> means_over_prompts(const ResultNumbers& results, const std::string& set,
                                       const std::string& quantity) {
  constexpr std::size_t kMean = 2;  // among statistic_names()
  const std::vector<double>* values = results.numbers(group_of_statistics(set), quantity);
  if (values == nullptr) return {};
  const std::size_t slots = values->size() / statistic_names().size();
  const auto first = values->begin() + static_cast<std::ptrdiff_t>(kMean * slots);
  return {first, first + static_cast<std::ptrdiff_t>(slots)};
}

double scalar_of(const ResultNumbers& results, const std::string& group, const std::string& dataset) {
  const std::vector<double>* values = results.numbers(group, dataset);
  return values == nullptr || values->empty() ? kNaN : values->front();
}

}  // namespace spectrace
