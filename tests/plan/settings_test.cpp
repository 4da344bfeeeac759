#include "spectrace/plan/settings.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/hash.hpp"
#include "spectrace/measure/catalogue.hpp"

namespace spectrace {
namespace {

std::vector<std::string> names_of(const Identity& identity) {
  std::vector<std::string> names;
  for (const auto& [name, value] : identity) names.push_back(name);
  return names;
}

std::string value_of(const Identity& identity, const std::string& name) {
  for (const auto& [what, value] : identity)
    if (what == name) return value;
  return "absent";
}

PlanOptions float64_options() {
  return {.dtype = ComputeType::float64, .tokens_per_batch = 30, .config = "{\"n_layer\": 2}"};
}

TEST(Identity, names_come_in_one_order) {
  const AnalysisChoice all = AnalysisChoice::of({"weights", "unembedding", "attention", "sheaf", "residual"});
  Identity identity = identity_of(all, float64_options());
  add_set(identity, "test", "abc");
  EXPECT_EQ(names_of(identity),
            (std::vector<std::string>{"numerics version", "config.json", "compute dtype", "slicing",
                                      "numerics version of weights", "numerics version of unembedding",
                                      "tokens_per_batch", "numerics version of attention", "numerics version of sheaf",
                                      "beta grid", "numerics version of residual", "prompts of the set 'test'"}));
  EXPECT_EQ(value_of(identity, "config.json"), sha256_hex("{\"n_layer\": 2}"));
  EXPECT_EQ(value_of(identity, "compute dtype"), "float64");
  EXPECT_EQ(value_of(identity, "slicing"), "correct");
  EXPECT_EQ(value_of(identity, "tokens_per_batch"), "30");
  EXPECT_EQ(value_of(identity, "prompts of the set 'test'"), "abc");
  EXPECT_EQ(Json::parse(value_of(identity, "beta grid")).size(), 25u);
  PlanOptions on_gpu = float64_options();
  on_gpu.device_kind = "H200";
  EXPECT_EQ(value_of(identity_of(all, on_gpu), "device"), "H200");
}

// Else a job without the sheaf would hold results of another grid to be its own.
TEST(Identity, holds_no_grid_unless_something_is_made_over_it) {
  for (const auto& analysis : {"residual", "attention", "weights"}) {
    const Identity identity = identity_of(AnalysisChoice::of({analysis}), float64_options());
    EXPECT_EQ(value_of(identity, "beta grid"), "absent") << analysis;
    EXPECT_EQ(value_of(identity, "tokens_per_batch") == "absent", analysis == std::string("weights"));
  }
  EXPECT_NE(value_of(identity_of(AnalysisChoice::of({"sheaf"}), float64_options()), "beta grid"), "absent");
}

TEST(Identity, a_grown_one_is_that_of_one_job_for_all_of_it) {
  const PlanOptions options = float64_options();
  const auto identity = [&](const std::vector<std::string>& analyses, const std::vector<std::string>& sets) {
    Identity made = identity_of(AnalysisChoice::of(analyses), options);
    for (const auto& set : sets) add_set(made, set, "digest of " + set);
    return made;
  };
  const Identity at_once = identity({"weights", "sheaf", "residual"}, {"a", "b"});
  EXPECT_EQ(merged(identity({"weights"}, {}), identity({"sheaf", "residual"}, {"a", "b"})), at_once);
  EXPECT_EQ(merged(identity({"sheaf"}, {"a", "b"}), identity({"weights", "residual"}, {"a", "b"})), at_once);
  // Sets that the job has come first, then those that it no longer has.
  EXPECT_EQ(names_of(merged(identity({"residual"}, {"b", "a"}), identity({"residual"}, {"a"}))),
            names_of(identity({"residual"}, {"a", "b"})));
}

TEST(Identity, what_it_was_counts_only_where_nothing_is_said_now) {
  const Identity before = {{"compute dtype", "float32"}, {"beta grid", "[0.1,1.0]"}, {"of another version", "x"}};
  const Identity now = {{"compute dtype", "float64"}, {"slicing", "correct"}};
  EXPECT_EQ(merged(before, now), (Identity{{"compute dtype", "float64"},
                                           {"slicing", "correct"},
                                           {"beta grid", "[0.1,1.0]"},
                                           {"of another version", "x"}}));
  EXPECT_EQ(merged(before, {}), before);
  EXPECT_EQ(merged({}, now), now);
}

TEST(Parameters, are_those_of_the_analyses_that_results_have) {
  const Identity identity = {{"numerics version", "3"},      {"compute dtype", "float64"}, {"slicing", "correct"},
                             {"tokens_per_batch", "30"},     {"device", "H200"},           {"beta grid", "[0.1,1.0]"},
                             {"prompts of the set 'a'", "x"}};
  const auto parameters = [&](const std::vector<std::string>& names) {
    std::vector<const Analysis*> analyses;
    for (const auto& name : names) analyses.push_back(find_analysis(name));
    return parameters_of(identity, analyses);
  };
  EXPECT_EQ(parameters({}), (Json{{"slicing", "correct"}, {"dtype", "float64"}}));
  EXPECT_EQ(parameters({"weights"}), parameters({}));
  EXPECT_EQ(parameters({"residual"}), (Json{{"slicing", "correct"}, {"dtype", "float64"}, {"tokens_per_batch", 30}}));
  EXPECT_EQ(parameters({"residual", "sheaf"}),
            (Json{{"slicing", "correct"}, {"dtype", "float64"}, {"tokens_per_batch", 30}, {"beta", {0.1, 1.0}}}));
  EXPECT_EQ(parameters_of({}, {find_analysis("sheaf")}), (Json{{"slicing", ""}, {"dtype", ""}}));
}

TEST(Parameters, values_of_another_kind_are_found) {
  EXPECT_EQ(find_wrong_value({}), "");
  EXPECT_EQ(find_wrong_value(identity_of(AnalysisChoice::of({"weights", "sheaf"}), float64_options())), "");
  EXPECT_EQ(find_wrong_value({{"tokens_per_batch", "many"}}), "its identity's tokens_per_batch is not of its kind");
  EXPECT_EQ(find_wrong_value({{"tokens_per_batch", "[30]"}}), "its identity's tokens_per_batch is not of its kind");
  EXPECT_EQ(find_wrong_value({{"tokens_per_batch", "30"}, {"beta grid", "0.1"}}),
            "its identity's beta grid is not of its kind");
  EXPECT_EQ(find_wrong_value({{"beta grid", "[0.1"}}), "its identity's beta grid is not of its kind");
  // A text is a text.
  EXPECT_EQ(find_wrong_value({{"compute dtype", "30"}, {"unknown", "["}}), "");
}

TEST(SettingsOf, an_analysis_that_ignores_the_slicing_does_not_depend_on_it) {
  for (const Chosen& chosen : AnalysisChoice::of(analysis_names())) {
    bool has_slicing = false;
    for (const Setting& setting : settings_of(chosen, float64_options())) has_slicing |= setting.name == "slicing";
    EXPECT_EQ(has_slicing, chosen.analysis->info().ignores_slicing.empty()) << chosen.name();
  }
}

TEST(Identity, differences_are_named_and_new_names_are_none) {
  const Identity before = {{"weights", "aa"}, {"slicing", "correct"}, {"beta grid", "[1]"}};
  const Identity now = {{"weights", "bb"}, {"slicing", "correct"}, {"prompts of the set 'x'", "cc"}};
  EXPECT_EQ(identity_differences(before, now), std::vector<std::string>{"weights: was aa, now bb"});
  EXPECT_EQ(identity_from_json(identity_to_json(before)), before);
}

// Files of the first version say none.
TEST(Identity, an_analysis_whose_numbers_are_of_another_version_is_named) {
  const PlanOptions options = float64_options();
  const auto of = [&](const std::vector<std::string>& names) {
    return identity_of(AnalysisChoice::of(names), options);
  };
  const Identity first = {{"slicing", "correct"}};
  const std::vector<const Analysis*> both = {find_analysis("sheaf"), find_analysis("weights")};
  const std::string now = value_of(of({"sheaf"}), "numerics version of sheaf");
  EXPECT_EQ(identity_differences(with_versions(first, both), of({"sheaf"})),
            std::vector<std::string>{"numerics version of sheaf: was 1, now " + now});
  EXPECT_EQ(identity_differences(with_versions(first, both), of({"heads"})), std::vector<std::string>());
  EXPECT_EQ(identity_differences(with_versions(first, {both[1]}), of({"sheaf"})), std::vector<std::string>());
  EXPECT_EQ(identity_differences(with_versions(of({"sheaf"}), both), of({"sheaf"})), std::vector<std::string>());
}

// As people read it: neither 64 digits nor every beta.
TEST(Identity, differences_are_short) {
  Json betas = Json::array();
  for (int i = 0; i < 25; ++i) betas.push_back(0.125 * i);
  const Identity before = {{"beta grid", betas.dump()}, {"prompts of the set 's'", std::string(64, 'a')}};
  const Identity now = {{"beta grid", "[0.5,1.0]"}, {"prompts of the set 's'", std::string(64, 'b')}};
  EXPECT_EQ(identity_differences(before, now),
            (std::vector<std::string>{"beta grid: was 25 values from 0.0 to 3.0, now [0.5,1.0]",
                                      "prompts of the set 's': was aaaaaaaa..., now bbbbbbbb..."}));
}

TEST(Identity, the_host_goes_without_saying) {
  const Identity host = {{"slicing", "correct"}, {"tokens_per_batch", "256"}};
  Identity there = host, weights = {{"slicing", "correct"}};
  there.emplace_back("device", "H100");
  EXPECT_EQ(identity_differences(host, host), std::vector<std::string>());
  EXPECT_EQ(identity_differences(there, there), std::vector<std::string>());
  EXPECT_EQ(identity_differences(host, there), std::vector<std::string>{"device: was cpu, now H100"});
  EXPECT_EQ(identity_differences(there, host), std::vector<std::string>{"device: was H100, now cpu"});
  // Spectra of weights are the host's everywhere.
  EXPECT_EQ(identity_differences(weights, there), std::vector<std::string>());
  EXPECT_EQ(identity_differences(there, weights), std::vector<std::string>());
}

}  // namespace
}  // namespace spectrace
