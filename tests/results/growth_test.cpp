#include "spectrace/results/growth.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

using Names = std::vector<std::string>;

const KeepChoice kKeepMost, kKeepAll{KeepChoice::Which::all, {}}, kKeepNone{KeepChoice::Which::listed, {}};

AnalysisChoice usual() {
  return AnalysisChoice::of({"weights", "heads", "unembedding", "attention", "sheaf", "residual"});
}

AnalysisChoice with_eigenvalues(const AnalysisChoice& choice) {
  std::vector<Chosen> all(choice.begin(), choice.end());
  for (Chosen& chosen : all)
    if (chosen.name() == "sheaf") chosen.settings["graph_eigenvalues"] = true;
  return AnalysisChoice(std::move(all));
}

Group group_named(const std::string& path) {
  Group group;
  group.path = path;
  return group;
}

void add_dataset(const Quantity& quantity, Group& group) {
  group.datasets.push_back(dataset_of(quantity, std::vector<double>()));
}

/// The datasets, by name alone, that a job leaves of one set.
ResultTree tree_of(const AnalysisChoice& choice, const KeepChoice& keep, const std::string& set = "s") {
  ResultTree tree;
  Group rows = group_named(group_of_set(set)), statistics = group_named(group_of_statistics(set));
  for (const Chosen& chosen : choice) {
    if (!chosen.is_of_prompts()) {
      Group& group = tree.groups.emplace_back(group_named(chosen.analysis->info().group));
      for (const Quantity* quantity : chosen.quantities()) add_dataset(*quantity, group);
      for (const Fact& fact : chosen.analysis->info().facts) add_dataset(fact.quantity, group);
      continue;
    }
    for (const Quantity* quantity : chosen.quantities()) {
      if (is_kept(*quantity, keep)) add_dataset(*quantity, rows);
      if (quantity->has_statistics) add_dataset(*quantity, statistics);
    }
    if (!chosen.has_set_quantities()) continue;
    Group& numbers = tree.groups.emplace_back(group_named(group_of_set_numbers(set, chosen.name())));
    for (const Quantity& quantity : chosen.analysis->info().set_quantities) add_dataset(quantity, numbers);
  }
  if (choice.any_of_prompts()) tree.groups.insert(tree.groups.end(), {rows, statistics});
  return tree;
}

Group& group_at(ResultTree& tree, const std::string& path) {
  return *std::find_if(tree.groups.begin(), tree.groups.end(), [&](const Group& group) { return group.path == path; });
}

void drop_dataset(Group& group, const std::string& name) {
  std::erase_if(group.datasets, [&](const Dataset& dataset) { return dataset.name == name; });
}

Lack lack_of(const ResultTree& tree, const AnalysisChoice& choice, const KeepChoice& keep, const Names& sets = {"s"}) {
  std::vector<PreparedSet> prepared;
  for (const auto& set : sets) prepared.push_back({set, {{"p", {1, 2}, ""}}});
  return find_lack(tree, choice, keep, std::move(prepared));
}

/// Of the one set; empty if it lacks nothing.
Names lacking(const ResultTree& tree, const AnalysisChoice& choice, const KeepChoice& keep) {
  const Lack lack = lack_of(tree, choice, keep);
  return lack.sets.empty() ? Names() : lack.sets.at(0).analyses.names();
}

TEST(FindLack, what_is_there_is_not_made_again) {
  for (const auto& keep : {kKeepMost, kKeepAll, kKeepNone})
    EXPECT_TRUE(lack_of(tree_of(usual(), keep), usual(), keep).empty());
}

TEST(FindLack, of_nothing_is_everything) {
  const Lack lack = lack_of({}, usual(), kKeepMost), all = everything(usual(), {PreparedSet{"s", {}}});
  EXPECT_EQ(lack.of_weights.names(), (Names{"weights", "heads", "unembedding"}));
  ASSERT_EQ(lack.sets.size(), 1u);
  EXPECT_EQ(lack.sets[0].analyses.names(), (Names{"attention", "sheaf", "residual"}));
  EXPECT_EQ(lack.sets[0].prompts.at(0).token_ids, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(all.of_weights.names(), lack.of_weights.names());
  EXPECT_EQ(all.sets.at(0).analyses.names(), lack.sets[0].analyses.names());
  EXPECT_TRUE(lack_of({}, usual().of_weights(), kKeepMost).sets.empty());
}

TEST(FindLack, a_set_is_open_for_the_analyses_that_it_lacks_alone) {
  const AnalysisChoice before = AnalysisChoice::of({"weights", "attention"});
  const Lack lack = lack_of(tree_of(before, kKeepMost), usual(), kKeepMost, {"new", "s"});
  EXPECT_EQ(lack.of_weights.names(), (Names{"heads", "unembedding"}));
  ASSERT_EQ(lack.sets.size(), 2u);
  EXPECT_EQ(lack.sets[0].name, "new");
  EXPECT_EQ(lack.sets[0].analyses.names(), (Names{"attention", "sheaf", "residual"}));
  EXPECT_EQ(lack.sets[1].name, "s");
  EXPECT_EQ(lack.sets[1].analyses.names(), (Names{"sheaf", "residual"}));
  // What results have and nobody asks for is no lack.
  EXPECT_TRUE(lack_of(tree_of(usual(), kKeepMost), before, kKeepMost).empty());
}

TEST(FindLack, rows_without_statistics_are_none) {
  ResultTree tree = tree_of(usual(), kKeepMost);
  tree.groups.pop_back();
  ASSERT_EQ(tree.groups.back().path, "/prompts/s");
  EXPECT_EQ(lacking(tree, usual(), kKeepMost), (Names{"attention", "sheaf", "residual"}));
}

TEST(FindLack, what_is_to_be_kept_and_is_not_there_is_made_again) {
  const ResultTree statistics = tree_of(usual(), kKeepNone), most = tree_of(usual(), kKeepMost);
  EXPECT_EQ(lacking(statistics, usual(), kKeepMost), (Names{"attention", "sheaf", "residual"}));
  EXPECT_EQ(lacking(statistics, usual(), {KeepChoice::Which::listed, {"gain"}}), Names{"residual"});
  EXPECT_EQ(lacking(most, usual(), kKeepAll), Names{"sheaf"});
  EXPECT_EQ(lacking(most, usual(), {KeepChoice::Which::listed, {"heat_capacity", "row_entropy"}}), Names{"sheaf"});
  // Keeping less than is there loses nothing.
  for (const auto& keep : {kKeepMost, kKeepNone, KeepChoice{KeepChoice::Which::listed, {"gain"}}})
    EXPECT_TRUE(lack_of(tree_of(usual(), kKeepAll), usual(), keep).empty());
}

TEST(FindLack, graph_eigenvalues_that_are_asked_for_later_are_made) {
  const AnalysisChoice now = with_eigenvalues(usual());
  const ResultTree without = tree_of(usual(), kKeepMost), with = tree_of(now, kKeepMost);
  EXPECT_EQ(lacking(without, now, kKeepMost), Names{"sheaf"});
  EXPECT_EQ(lacking(without, now, kKeepNone), Names());  // they have no statistics
  EXPECT_EQ(lacking(with, now, kKeepMost), Names());
  EXPECT_EQ(lacking(with, usual(), kKeepMost), Names());
}

TEST(FindLack, what_is_said_of_a_set_as_a_whole_is_made_again_where_it_lacks_or_failed) {
  const AnalysisChoice geometry = AnalysisChoice::of({"attention", "last_token_geometry"});
  ResultTree tree = tree_of(geometry, kKeepMost);
  EXPECT_EQ(lacking(tree, geometry, kKeepMost), Names());
  EXPECT_EQ(lacking(tree_of(AnalysisChoice::of({"attention"}), kKeepMost), geometry, kKeepMost),
            Names{"last_token_geometry"});
  Group& numbers = group_at(tree, "/prompts/s/last_token_geometry");
  const Group whole = numbers;
  for (const Dataset& dataset : whole.datasets) {
    drop_dataset(numbers, dataset.name);
    EXPECT_EQ(lacking(tree, geometry, kKeepMost), Names{"last_token_geometry"}) << dataset.name;
    numbers = whole;
  }
  numbers.attributes.emplace_back("failed_units", std::int64_t{1});
  EXPECT_EQ(lacking(tree, geometry, kKeepMost), Names{"last_token_geometry"});
}

// A version that knows one quantity more: what was made before it is made again, and not refused.
TEST(FindLack, a_group_that_lacks_one_declared_dataset_is_made_again) {
  for (const Chosen& chosen : with_eigenvalues(usual()))
    for (const Quantity* quantity : chosen.quantities()) {
      SCOPED_TRACE(chosen.name() + " " + quantity->name);
      ResultTree tree = tree_of(with_eigenvalues(usual()), kKeepAll);
      const std::string group = chosen.is_of_prompts() ? "/prompts/s/statistics" : chosen.analysis->info().group;
      if (chosen.is_of_prompts() && !quantity->has_statistics) continue;
      drop_dataset(group_at(tree, group), quantity->name);
      const Lack lack = lack_of(tree, with_eigenvalues(usual()), kKeepAll);
      EXPECT_EQ(lack.of_weights.names(), chosen.is_of_prompts() ? Names() : Names{chosen.name()});
      ASSERT_EQ(lack.sets.size(), chosen.is_of_prompts() ? 1u : 0u);
      if (!lack.sets.empty()) {
        EXPECT_EQ(lack.sets[0].analyses.names(), Names{chosen.name()});
      }
    }
}

TEST(FindLack, a_group_that_lacks_what_follows_from_the_model_is_made_again) {
  ResultTree tree = tree_of(usual(), kKeepMost);
  drop_dataset(group_at(tree, "/heads"), "kv_head_of_head");
  EXPECT_EQ(lack_of(tree, usual(), kKeepMost).of_weights.names(), Names{"heads"});
}

/// What a set's group says of failed units.
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;
Attributes failed(const std::string& by_names) {
  return {{"failed_units", std::int64_t{3}}, {"failed_analyses", by_names}};
}

TEST(FindLack, analyses_with_failed_units_are_made_again) {
  ResultTree tree = tree_of(usual(), kKeepMost);
  group_at(tree, "/prompts/s").attributes = failed(R"({"attention sheaf": 3})");
  EXPECT_EQ(lacking(tree, usual(), kKeepMost), (Names{"attention", "sheaf"}));
  // A job that asks for none of them has what it wants.
  EXPECT_EQ(lacking(tree, AnalysisChoice::of({"residual"}), kKeepMost), Names());
}

TEST(FindLack, weights_with_failed_units_are_made_again) {
  ResultTree tree = tree_of(usual(), kKeepMost);
  group_at(tree, "/heads").attributes = {{"failed_units", std::int64_t{1}}};
  EXPECT_EQ(lack_of(tree, usual(), kKeepMost).of_weights.names(), Names{"heads"});
  EXPECT_TRUE(lack_of(tree, AnalysisChoice::of({"weights"}), kKeepMost).empty());
}

// The numbers that are there would be lost, or be NaN where units failed.
TEST(FindLack, what_is_made_again_is_made_with_the_options_of_before) {
  ResultTree tree = tree_of(with_eigenvalues(usual()), kKeepMost);
  group_at(tree, "/prompts/s").attributes = failed(R"({"attention sheaf": 3})");
  const Lack lack = lack_of(tree, usual(), kKeepMost);
  ASSERT_EQ(lack.sets.size(), 1u);
  EXPECT_EQ(lack.sets[0].analyses.find("sheaf")->settings.at("graph_eigenvalues"), true);
  EXPECT_EQ(lack.sets[0].analyses.find("attention")->settings, usual().find("attention")->settings);
}

TEST(FindLack, files_that_do_not_say_which_analyses_failed_failed_in_all) {
  ResultTree tree = tree_of(AnalysisChoice::of({"weights", "attention", "residual"}), kKeepMost);
  group_at(tree, "/prompts/s").attributes = {{"failed_units", std::int64_t{1}}};
  EXPECT_EQ(lacking(tree, AnalysisChoice::of({"attention", "residual"}), kKeepMost), (Names{"attention", "residual"}));
  // Of another type than it should be, it still says that some failed.
  group_at(tree, "/prompts/s").attributes = {{"failed_units", std::string("1")}};
  EXPECT_EQ(lacking(tree, AnalysisChoice::of({"attention", "residual"}), kKeepMost), (Names{"attention", "residual"}));
}

TEST(FindLack, failures_of_one_set_are_not_the_others) {
  ResultTree tree = tree_of(usual(), kKeepMost);
  const ResultTree other = tree_of(usual().of_prompts(), kKeepMost, "other");
  tree.groups.insert(tree.groups.end(), other.groups.begin(), other.groups.end());
  group_at(tree, "/prompts/other").attributes = failed(R"({"residual": 3})");
  const Lack lack = lack_of(tree, usual(), kKeepMost, {"s", "other"});
  ASSERT_EQ(lack.sets.size(), 1u);
  EXPECT_EQ(lack.sets[0].name, "other");
  EXPECT_EQ(lack.sets[0].analyses.names(), Names{"residual"});
}

}  // namespace
}  // namespace spectrace
