#include "spectrace/results/failures.hpp"

#include <gtest/gtest.h>

#include "spectrace/measure/catalogue.hpp"
#include "spectrace/results/layout.hpp"

namespace spectrace {
namespace {

using Strings = std::vector<std::string>;

/// As the assembly puts them into a set's group, of three prompts; the statistics are those of the analyses.
ResultTree tree_of(const SetFailures& failures, const Strings& analyses) {
  Group rows, statistics;
  rows.path = group_of_set("s");
  statistics.path = group_of_statistics("s");
  rows.attributes = failures.attributes();
  for (const Quantity& fact : prompt_facts()) {
    if (fact.name == kPromptId) rows.datasets.push_back(dataset_of(fact, Strings{"a", "b", "c"}));
    if (fact.name == kPromptError) rows.datasets.push_back(dataset_of(fact, failures.of_prompts()));
    if (fact.name == kPromptErrorByAnalysis && !failures.by_analysis().empty())
      rows.datasets.push_back(dataset_of(fact, failures.by_analysis()));
  }
  for (const auto& name : analyses)
    statistics.datasets.push_back(statistics_of(find_analysis(name)->info().quantities.front(), {}));
  ResultTree tree;
  tree.groups = {rows, statistics};
  return tree;
}

SetFailures read(const ResultTree& tree) { return SetFailures(tree, "s"); }

TEST(SetFailures, of_one_job_are_the_prompts) {
  SetFailures failures;
  failures.add({"sheaf", "residual"}, {"", "too long", "no memory"}, 2);
  EXPECT_EQ(failures.of_prompts(), (Strings{"", "too long", "no memory"}));
  EXPECT_EQ(failures.by_analysis(), Strings());
  EXPECT_TRUE(failures.has_failed_units_of("sheaf"));
  EXPECT_TRUE(failures.has_failed_units_of("residual"));
  EXPECT_FALSE(failures.has_failed_units_of("attention"));
}

TEST(SetFailures, of_several_jobs_are_told_apart_when_they_are_read_again) {
  SetFailures failures;
  failures.add({"residual", "sheaf"}, {"", "too long", "no \"memory\"; at all"}, 2);
  failures.add({"attention"}, {"the disk failed", "too long", ""}, 1);
  EXPECT_EQ(failures.of_prompts(), (Strings{"the disk failed", "too long", "no \"memory\"; at all"}));
  SetFailures again = read(tree_of(failures, {"attention", "sheaf", "residual"}));
  EXPECT_EQ(again.of_prompts(), failures.of_prompts());
  EXPECT_EQ(again.by_analysis(), failures.by_analysis());
  EXPECT_EQ(again.attributes(), failures.attributes());

  again.forget({"residual"});
  EXPECT_EQ(again.of_prompts(), failures.of_prompts());  // the sheaf's are there still
  EXPECT_FALSE(again.has_failed_units_of("residual"));
  EXPECT_EQ(num_failed_units(tree_of(again, {"attention", "sheaf"})), 3);
  again.forget({"sheaf"});
  EXPECT_EQ(again.of_prompts(), (Strings{"the disk failed", "too long", ""}));
  EXPECT_EQ(again.by_analysis(), Strings());
  EXPECT_EQ(num_failed_units(tree_of(again, {"attention"})), 1);
  again.forget({"attention"});
  EXPECT_TRUE(again.attributes().empty());
}

TEST(SetFailures, of_nothing_are_none) {
  const SetFailures none = read({});
  EXPECT_TRUE(none.of_prompts().empty());
  EXPECT_TRUE(none.by_analysis().empty());
  EXPECT_TRUE(none.attributes().empty());
}

// Errors are of all that the set has, whatever other sets hold.
TEST(SetFailures, that_do_not_say_of_what_are_of_all_that_the_set_has) {
  ResultTree tree = tree_of({}, {"sheaf"});
  tree.groups[0].attributes = {{"failed_units", std::int64_t{4}}};
  tree.groups[0].datasets = {dataset_of({.name = kPromptError}, Strings{"", "no memory"})};
  Group other = tree_of({}, {"attention"}).groups[1];
  other.path = group_of_statistics("other");
  tree.groups.push_back(other);
  EXPECT_TRUE(read(tree).has_failed_units_of("sheaf"));
  EXPECT_FALSE(read(tree).has_failed_units_of("attention"));
  EXPECT_EQ(read(tree).of_prompts(), (Strings{"", "no memory"}));
}

/// What stands in a file may be anything: errors are then of every analysis.
TEST(SetFailures, that_cannot_be_read_are_of_all) {
  SetFailures failures;
  failures.add({"sheaf"}, {"", "no memory", ""}, 1);
  failures.add({"residual"}, {"", "", ""}, 0);
  const Strings all = {"attention", "sheaf", "residual"};
  for (const char* text : {"[1]", "5", "x", "", "{\"sheaf\": 5}"}) {
    SCOPED_TRACE(text);
    ResultTree tree = tree_of(failures, all);
    tree.groups[0].datasets.back().values = Strings{text, text, text};
    EXPECT_EQ(read(tree).of_prompts(), (Strings{"", "no memory", ""}));
    tree.groups[0].attributes.back().second = std::string(text);
    EXPECT_NO_THROW(static_cast<void>(read(tree).attributes()));
  }
  ResultTree tree = tree_of(failures, all);
  tree.groups[0].datasets.back().values = Strings{"{}"};
  EXPECT_EQ(read(tree).of_prompts(), (Strings{"", "no memory", ""}));
}

TEST(Failures, lines_say_which_prompts_failed) {
  SetFailures failures;
  failures.add({"residual"}, {"", "too long", "not finite"}, 0);
  EXPECT_EQ(prompt_errors_in(tree_of(failures, {"residual"})),
            Strings{"prompt set 's': 2 of 3 prompts failed, the first is 'b': too long"});
}

TEST(Failures, of_weights_are_each_said_once) {
  ResultTree tree;
  for (const char* path : {"/weights", "/heads", "/mlp"}) {
    Group& group = tree.groups.emplace_back();
    group.path = path;
    if (path == std::string("/mlp")) continue;
    group.attributes = {{kFailedUnitsAttribute, std::int64_t{2}},
                        {kErrorAttribute, std::string("layer 1: not finite")}};
  }
  EXPECT_EQ(num_failed_units(tree), 4);
  EXPECT_EQ(group_errors_in(tree), Strings{"layer 1: not finite"});
  EXPECT_TRUE(has_failed_units(tree.groups[0]));
  EXPECT_FALSE(has_failed_units(tree.groups[2]));
}

}  // namespace
}  // namespace spectrace
