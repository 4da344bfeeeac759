#include "spectrace/results/layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <numeric>
#include <set>

#include "spectrace/core/floats.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/store/result_file.hpp"
#include "support/plain_layers.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

/// Two layers, two heads of three dimensions, one of keys and values for both, 30 tokens.
ModelDescription model_of_two_layers() {
  ModelDescription model;
  model.num_layers = 2;
  model.num_heads = 2;
  model.num_kv_heads = 1;
  model.head_dim = 3;
  model.hidden_size = 5;
  model.embedding.unembedding.shape = {30, 5};
  set_plain_layers(model);
  return model;
}

template <typename Named>
std::vector<std::string> names_of(const std::vector<Named>& all) {
  std::vector<std::string> names;
  for (const Named& named : all) names.push_back(named.name);
  return names;
}

Group empty_of(const std::string& analysis) {
  return empty_group(*AnalysisChoice::of({analysis}).find(analysis), model_of_two_layers(), Slicing::correct);
}

TEST(Layout, a_set_as_a_whole_has_a_group_of_its_own) {
  const ModelDescription model = model_of_two_layers();
  const Chosen chosen = *AnalysisChoice::of({"last_token_geometry"}).begin();
  const Circumstances of{model, Slicing::correct, chosen.settings, 0, 3};
  const auto join = chosen.of_prompts()->join(of, 0);
  while (join->needs_another_pass()) {
  }
  const Record numbers = join->finish();
  const Group group = set_numbers_group(chosen, of, "s", numbers);
  EXPECT_EQ(group.path, "/prompts/s/last_token_geometry");
  EXPECT_EQ(group.find_dimension("boundary")->size(), 2u);
  EXPECT_EQ(group.find_dimension("index")->size(), 3u);
  EXPECT_EQ(group.find_dimension("channel"), nullptr);  // of records alone
  EXPECT_EQ(find_misfit(group), "");
  EXPECT_EQ(analysis_of_set_numbers(group), chosen.analysis);
  EXPECT_TRUE(group.attributes.empty());
  Group other = group;
  other.datasets[1].dims = {"index"};
  EXPECT_NE(find_misfit(other), "");
  Record failed;
  failed.error = "no room";
  const Group without = set_numbers_group(chosen, of, "s", failed);
  EXPECT_EQ(names_of(without.datasets), names_of(group.datasets));
  EXPECT_EQ(std::get<std::string>(without.attributes.back().second), "no room");
  for (const Dataset& dataset : without.datasets)
    for (const double value : std::get<std::vector<double>>(dataset.values)) EXPECT_TRUE(std::isnan(value));
  // A set may have the name of an analysis.
  other.path = "/prompts/last_token_geometry";
  EXPECT_EQ(analysis_of_set_numbers(other), nullptr);
  other.path = "/prompts/s/statistics";
  EXPECT_EQ(analysis_of_set_numbers(other), nullptr);
}

TEST(Layout, an_empty_group_has_every_quantity_and_nothing_measured) {
  for (const auto& name : {"weights", "heads", "unembedding"}) {
    SCOPED_TRACE(name);
    const Group group = empty_of(name);
    const AnalysisInfo& info = find_analysis(name)->info();
    EXPECT_EQ(group.path, info.group);
    ASSERT_EQ(group.datasets.size(), info.quantities.size() + info.facts.size());
    for (std::size_t q = 0; q < info.quantities.size(); ++q) {
      const Dataset& dataset = group.datasets[q];
      EXPECT_EQ(dataset.name, info.quantities[q].name);
      EXPECT_EQ(dataset.units, info.quantities[q].units);
      EXPECT_EQ(dataset.long_name, info.quantities[q].meaning);
      std::size_t size = 1;
      for (const auto& dim : dataset.dims) size *= group.find_dimension(dim)->size();
      const auto& values = std::get<std::vector<double>>(dataset.values);
      EXPECT_EQ(values.size(), size) << dataset.name;
      EXPECT_TRUE(std::all_of(values.begin(), values.end(), [](double value) { return std::isnan(value); }));
    }
    for (const Dimension& dimension : group.dimensions) EXPECT_FALSE(dimension.long_name.empty()) << dimension.name;
    EXPECT_EQ(find_misfit(group), "");
  }
}

// The order of a walk over the file, and so its bytes.
TEST(Layout, dimensions_come_as_the_quantities_name_them) {
  EXPECT_EQ(names_of(empty_of("weights").dimensions), (std::vector<std::string>{"layer", "matrix", "index"}));
  EXPECT_EQ(names_of(empty_of("heads").dimensions), (std::vector<std::string>{"layer", "matrix", "head", "index"}));
  EXPECT_EQ(names_of(empty_of("unembedding").dimensions), (std::vector<std::string>{"index", "token"}));
  EXPECT_EQ(empty_of("weights").find_dimension("index")->size(), 5u);
  EXPECT_EQ(empty_of("heads").find_dimension("index")->size(), 3u);
  EXPECT_EQ(empty_of("unembedding").find_dimension("token")->size(), 30u);
  EXPECT_EQ(std::get<std::vector<std::string>>(empty_of("heads").find_dimension("matrix")->values),
            (std::vector<std::string>{"W_Q", "W_K", "W_V", "W_O"}));
  EXPECT_EQ(std::get<std::vector<std::int64_t>>(empty_of("heads").find("kv_head_of_head")->values),
            (std::vector<std::int64_t>{0, 0}));
}

TEST(Layout, a_group_that_ignores_the_slicing_says_so) {
  const OpenModel model =
      open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/llama", IoMode::automatic);
  for (const Chosen& chosen : AnalysisChoice::of(analysis_names()).of_weights()) {
    const Group group = empty_group(chosen, model.description, Slicing::as_published);
    ASSERT_EQ(group.attributes.size(), chosen.analysis->info().ignores_slicing.empty() ? 0u : 1u) << chosen.name();
    if (group.attributes.empty()) continue;
    EXPECT_EQ(group.attributes[0].first, "slicing");
    EXPECT_EQ(std::get<std::string>(group.attributes[0].second), "correct");
  }
}

TEST(Layout, statistics_stand_where_prompts_did) {
  const Quantity& trace = *find_analysis("sheaf")->find_quantity("trace");
  EXPECT_EQ(dataset_of(trace, std::vector<double>{}).dims, (std::vector<std::string>{"prompt", "layer", "head"}));
  EXPECT_EQ(statistics_of(trace, {}).dims, (std::vector<std::string>{"statistic", "layer", "head"}));
  EXPECT_EQ(statistics_of(trace, {}).name, "trace");
}

TEST(Layout, facts_of_prompts_are_no_quantities) {
  std::set<std::string> names;
  for (const Quantity& fact : prompt_facts()) names.insert(fact.name);
  EXPECT_EQ(names, (std::set<std::string>{"num_tokens", "prompt_error", "prompt_error_by_analysis", "prompt_id",
                                          "row_start", "token_ids"}));
  for (const Quantity* quantity : prompt_quantities()) EXPECT_FALSE(names.contains(quantity->name)) << quantity->name;
}

TEST(Layout, scalars_come_by_their_places) {
  const auto scalars = set_scalars();
  EXPECT_TRUE(std::is_sorted(scalars.begin(), scalars.end(),
                             [](const SetScalar* a, const SetScalar* b) { return a->place < b->place; }));
  std::vector<std::string> names;
  for (const SetScalar* scalar : scalars) names.push_back(scalar->quantity.name);
  const auto place = [&](const std::string& name) { return std::find(names.begin(), names.end(), name); };
  EXPECT_LT(place("last_gain_mean"), place("effective_amplification"));
  EXPECT_LT(place("l_star_trace"), place("l_star_entropy"));
  EXPECT_LT(place("l_star_entropy"), place("l_star_sign_change"));
  EXPECT_NE(place("l_star_sign_change"), names.end());
}

/// A set's groups with these quantities, of two layers and heads.
ResultTree tree_of_set(const std::vector<std::string>& quantities) {
  Group rows, statistics;
  rows.path = group_of_set("s");
  statistics.path = group_of_statistics("s");
  statistics.dimensions = {common_dimension("statistic", statistic_names())};
  for (const char* text : {kPromptId, kPromptError}) {
    const auto& facts = prompt_facts();
    const auto fact = std::find_if(facts.begin(), facts.end(), [&](const Quantity& one) { return one.name == text; });
    rows.datasets.push_back(dataset_of(*fact, std::vector<std::string>{"x"}));
  }
  for (const Quantity* quantity : prompt_quantities()) {
    if (std::find(quantities.begin(), quantities.end(), quantity->name) == quantities.end()) continue;
    rows.datasets.push_back(dataset_of(*quantity, std::vector<double>{1}));
    statistics.datasets.push_back(statistics_of(*quantity, {1, 0, 1, kNaN, 1, 1}));
  }
  ResultTree tree;
  tree.groups = {rows, statistics};
  return tree;
}

TEST(Layout, analyses_of_a_tree_are_those_of_which_it_has_something) {
  ResultTree tree = tree_of_set({"gain", "row_entropy"});
  tree.groups.push_back(empty_of("heads"));
  std::vector<std::string> names;
  for (const Analysis* analysis : analyses_in(tree)) names.push_back(analysis->name());
  EXPECT_EQ(names, (std::vector<std::string>{"heads", "attention", "residual"}));
  EXPECT_TRUE(analyses_in({}).empty());
}

TEST(Layout, misfits_are_named) {
  const auto of_group = [](std::size_t g, const std::function<void(Group&)>& change) {
    ResultTree tree = tree_of_set({"gain"});
    change(tree.groups[g]);
    return find_misfit(tree.groups[g]);
  };
  const std::string other = " has another type or other dimensions";
  EXPECT_EQ(of_group(0, [](Group&) {}), "");
  EXPECT_EQ(of_group(1, [](Group&) {}), "");
  EXPECT_EQ(of_group(0, [](Group& rows) { rows.datasets[2].dims = {"layer", "prompt"}; }), "/prompts/s/gain" + other);
  EXPECT_EQ(of_group(0, [](Group& rows) { rows.datasets[2].values = std::vector<std::int64_t>{1}; }),
            "/prompts/s/gain" + other);
  EXPECT_EQ(of_group(0, [](Group& rows) { rows.datasets.erase(rows.datasets.begin()); }),
            "/prompts/s/prompt_id is absent or of another type");
  EXPECT_EQ(of_group(1,
                     [](Group& group) {
                       group.datasets[0].dims = {"prompt", "layer"};
                     }),
            "/prompts/s/statistics/gain" + other);
  EXPECT_EQ(of_group(1, [](Group& group) { group.dimensions.clear(); }), "/prompts/s/statistics has other statistics");
  EXPECT_EQ(of_group(1,
                     [](Group& group) {
                       group.dimensions[0].values = std::vector<std::string>{"count", "mean"};
                     }),
            "/prompts/s/statistics has other statistics");
  EXPECT_EQ(of_group(1,
                     [](Group& group) {
                       group.datasets.push_back(dataset_of(set_scalars().front()->quantity, std::vector<double>{1}));
                       group.datasets.back().dims = {"statistic"};
                     }),
            "/prompts/s/statistics/" + set_scalars().front()->quantity.name + other);
  Group heads = empty_of("heads");
  heads.datasets[1].dims.pop_back();
  EXPECT_EQ(find_misfit(heads), "/heads/" + heads.datasets[1].name + other);
  // What nobody knows fits.
  heads = empty_of("heads");
  heads.datasets[1].name = "of_a_later_version";
  heads.datasets[1].dims.clear();
  EXPECT_EQ(find_misfit(heads), "");
}

TEST(Layout, scalars_are_made_anew_of_what_the_tree_holds) {
  ResultTree tree;
  tree.groups.push_back(empty_of("unembedding"));
  for (Dataset& dataset : tree.groups[0].datasets)
    if (dataset.name == "spectral_norm") dataset.values = std::vector<double>{4};
  Group statistics;
  statistics.path = group_of_statistics("s");
  // count, nonfinite, mean, ... of two layers each
  const Quantity& gain = *find_analysis("residual")->find_quantity("gain");
  statistics.datasets.push_back(statistics_of(gain, {3, 3, 0, 0, 1.25, 1.5, 0, 0, 1, 1, 2, 2}));
  // One of before, and those that were declared since: all are made now.
  statistics.datasets.push_back(dataset_of(set_scalars().front()->quantity, std::vector<double>{-1}));
  tree.groups.push_back(statistics);
  update_scalars(tree, "");
  const TreeNumbers numbers(tree, "");
  EXPECT_EQ(scalar_of(numbers, "/prompts/s/statistics", "last_gain_mean"), 1.5);
  EXPECT_EQ(scalar_of(numbers, "/prompts/s/statistics", "effective_amplification"), 6);
  EXPECT_TRUE(std::isnan(scalar_of(numbers, "/prompts/s/statistics", "l_star_trace")));  // of nothing
  std::vector<std::string> expected = {"gain"}, made;  // those of analyses that a job asks for are not made of nothing
  for (const SetScalar* scalar : set_scalars())
    if (const std::string& name = scalar->quantity.name; name != "next_token_nll_mean" && name != "perplexity_of_mean")
      expected.push_back(name);
  for (const Dataset& dataset : tree.groups[1].datasets) made.push_back(dataset.name);
  EXPECT_EQ(made, expected);
  EXPECT_TRUE(tree.groups[0].find("last_gain_mean") == nullptr);
  EXPECT_EQ(means_over_prompts(numbers, "s", "gain"), (std::vector<double>{1.25, 1.5}));
}

TEST(Layout, numbers_that_are_in_the_file_are_read_from_it) {
  ResultTree tree = tree_of_set({"gain"});
  const auto numbers_of = [&](const char* group, const char* dataset) {
    return TreeNumbers(tree, "nowhere.h5").numbers(group, dataset) != nullptr;
  };
  EXPECT_TRUE(numbers_of("/prompts/s", "gain"));
  EXPECT_FALSE(numbers_of("/prompts/s", kPromptId));
  EXPECT_FALSE(numbers_of("/prompts/s", "absent"));
  EXPECT_FALSE(numbers_of("/absent", "gain"));
  tree.groups[0].datasets.back().in_rows = true;
  EXPECT_FALSE(numbers_of("/prompts/s", "gain"));  // those of prompts are not asked for

  const TempFolder folder;
  ResultTree of_weights;
  of_weights.groups.push_back(empty_of("weights"));
  const auto spectra = [&]() -> Dataset& {
    auto& datasets = of_weights.groups[0].datasets;
    return *std::find_if(datasets.begin(), datasets.end(),
                         [](const Dataset& dataset) { return dataset.name == "singular_values"; });
  };
  auto& values = std::get<std::vector<double>>(spectra().values);
  std::iota(values.begin(), values.end(), 0.5);
  const std::vector<double> written = values;
  write_result_file(folder.path() / "m.h5", of_weights);
  spectra().in_rows = true;
  spectra().values = std::vector<double>();
  const TreeNumbers numbers(of_weights, folder.path() / "m.h5");
  ASSERT_NE(numbers.numbers("/weights", "singular_values"), nullptr);
  EXPECT_EQ(*numbers.numbers("/weights", "singular_values"), written);
  EXPECT_EQ(numbers.numbers("/weights", "singular_values"), numbers.numbers("/weights", "singular_values"));
}

}  // namespace
}  // namespace spectrace
