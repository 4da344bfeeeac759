#include "spectrace/results/assembly.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <span>

#include "spectrace/measure/prompts.hpp"
#include "spectrace/plan/open_model.hpp"
#include "spectrace/results/failures.hpp"
#include "spectrace/results/growth.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

using Strings = std::vector<std::string>;

Strings names_of_datasets(const Group& group) {
  Strings names;
  for (const Dataset& dataset : group.datasets) names.push_back(dataset.name);
  return names;
}

Strings names_of_dimensions(const Group& group) {
  Strings names;
  for (const Dimension& dimension : group.dimensions) names.push_back(dimension.name);
  return names;
}

AnalysisChoice on_grid(AnalysisChoice choice, int count) {
  std::vector<Chosen> all(choice.begin(), choice.end());
  for (Chosen& chosen : all)
    if (chosen.name() == "sheaf") chosen.settings["beta"] = {{"from", 0.5}, {"to", 2}, {"count", count}};
  return AnalysisChoice(std::move(all));
}

AnalysisChoice chosen(const Strings& names) { return on_grid(AnalysisChoice::of(names), 3); }

/// What a job found, beside numbers: units that failed, by their first prompt, and prompts that failed alone.
struct Failures {
  std::map<std::size_t, std::string> units = {}, prompts = {};
};

/// Sets of one small model put together in one job after the other, each building upon the file of the one before.
class GrownSet : public ::testing::Test {
 protected:
  /// Four prompts in two batches; the second one cannot run.
  GrownSet() { set_ = {"s", {{"a", {1, 2, 3}, ""}, {"b", {}, "too long"}, {"c", {4, 5, 6, 7}, ""}, {"d", {8}, ""}}}; }

  /// Numbers of a prompt that tell the quantity and their place.
  static double value_of(const std::string& quantity, std::size_t prompt, std::size_t i) {
    double sum = 0;
    for (const char letter : quantity) sum = 0.5 * sum + letter;
    return sum + 1000.0 * static_cast<double>(prompt) + 1e-3 * static_cast<double>(i);
  }

  Record record_of(const ModelPlan& plan, const Unit& unit, const Failures& failures) const {
    Record record;
    const BatchWork& batch = *unit.of_batch();
    if (const auto failed = failures.units.find(batch.prompts.front()); failed != failures.units.end()) {
      record.error = failed->second;
      return record;
    }
    record = PromptMeasurement(model_.description, batch_of(plan, batch), plan.sets[0].analyses).so_far();
    Strings errors(batch.prompts.size());
    for (std::size_t p = 0; p < batch.prompts.size(); ++p)
      if (const auto failed = failures.prompts.find(batch.prompts[p]); failed != failures.prompts.end()) {
        errors[p] = failed->second;
        record.texts[kPromptErrors] = errors;
      }
    for (auto& [name, array] : record.arrays) {
      const std::size_t slots = array.values.size() / batch.prompts.size();
      for (std::size_t i = 0; i < array.values.size(); ++i)
        array.values[i] = value_of(name, batch.prompts[i / slots], i % slots);
    }
    return record;
  }

  /// A job for these analyses upon what there is. What the assembly copied comes along.
  void run(const AnalysisChoice& analyses, const Failures& failures = {}, const KeepChoice& keep = {}) {
    const bool is_first = !std::filesystem::exists(path());
    const ResultTree earlier = is_first ? ResultTree() : read_result_file(path());
    PlanOptions options;
    options.tokens_per_batch = 5;  // batches {0} and {2, 3}
    const ModelPlan plan =
        plan_model(model_.description, AnalysisChoice(), find_lack(earlier, analyses, keep, {set_}).sets, options);
    ASSERT_EQ(plan.sets.size(), 1u);
    ASSERT_EQ(plan.units.size(), 2u);
    Assembly assembly(model_.description, plan, Slicing::correct, keep);
    for (std::size_t unit = 0; unit < plan.units.size(); ++unit)
      assembly.add(unit, record_of(plan, plan.units[unit], failures));

    ResultTree tree;
    tree.groups.push_back(assembly.take_set_group(0, is_first ? nullptr : &earlier));
    copied_ = assembly.copied(0);
    for (const Chosen& one : plan.sets[0].analyses) add_statistics(one, assembly);
    tree.groups.push_back(assembly.take_statistics(0, is_first ? nullptr : earlier.find(group_of_statistics("s"))));
    update_scalars(tree, path());
    write(plan, failures, assembly, tree);
  }

  ResultTree tree() const { return read_result_file(path()); }
  const Group& rows(const ResultTree& tree) const { return *tree.find(group_of_set("s")); }
  Strings errors(const ResultTree& tree, const char* dataset = kPromptError) const {
    const Dataset* errors = rows(tree).find(dataset);
    return errors == nullptr ? Strings() : std::get<Strings>(errors->values);
  }
  std::filesystem::path path() const { return folder_.path() / "m.h5"; }

  const OpenModel model_ =
      open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/gpt2", IoMode::automatic);
  PreparedSet set_;
  std::set<std::string> copied_;

 private:
  /// In the place of the exact sums: numbers that tell the quantity.
  void add_statistics(const Chosen& one, Assembly& assembly) const {
    const Extents extents = one.extents(model_.description, Slicing::correct);
    for (const Quantity* quantity : one.quantities()) {
      if (!quantity->has_statistics) continue;
      const auto count = 6 * static_cast<std::size_t>(num_values(*quantity, extents, "prompt"));
      std::vector<double> values;
      for (std::size_t i = 0; i < count; ++i) values.push_back(value_of(quantity->name, 9, i));
      assembly.add_statistics(0, *quantity, std::move(values));
    }
  }

  /// As the collector does: rows of batches in their order, copied ones beside them.
  void write(const ModelPlan& plan, const Failures& failures, Assembly& assembly, const ResultTree& made) const {
    ResultFileWriter writer(path());
    for (const Group& group : made.groups) {
      writer.add_group(group);
      if (group.path != group_of_set("s")) continue;
      std::vector<const Dataset*> of_before;
      for (const Dataset& dataset : group.datasets)
        if (assembly.copied(0).contains(dataset.name)) of_before.push_back(&dataset);
      RowsReader earlier(path(), group, of_before);
      for (const Unit& unit : plan.units)
        assembly.write_rows(0, unit.of_batch(), record_of(plan, unit, failures), writer);
      assembly.write_rows(0, nullptr, {}, writer);
      earlier.read_until(std::numeric_limits<std::size_t>::max(),
                         [&](const Dataset& dataset, std::span<const double> values) {
                           writer.write_rows(group.path, dataset.name, values);
                         });
    }
    writer.commit({{"Conventions", std::string(kConventions)}});
  }

  const TempFolder folder_;
};

TEST_F(GrownSet, is_the_one_that_is_made_at_once) {
  const Strings all = {"attention", "sheaf", "residual"};
  run(chosen(all));
  const std::string at_once = digest_tree(tree());
  const std::vector<std::vector<Strings>> ways = {{{"residual"}, {"attention", "residual"}, all},
                                                  {{"sheaf"}, all},
                                                  {{"attention", "sheaf"}, {"residual"}},
                                                  {{"attention"}, {"sheaf"}, {"residual"}}};
  for (const auto& jobs : ways) {
    std::filesystem::remove(path());
    for (const Strings& job : jobs) run(chosen(job));
    EXPECT_EQ(digest_tree(tree()), at_once) << jobs.size() << " jobs, the first for " << jobs.front().front();
  }
}

TEST_F(GrownSet, has_its_datasets_and_dimensions_in_the_catalogues_order) {
  run(chosen({"residual"}));
  const Strings facts = {"prompt_id", "num_tokens", "prompt_error", "token_ids", "row_start"},
                common = {"prompt", "layer", "head", "boundary", "token"};
  Strings expected = facts;
  const Strings of_residual = {"last_token_norm",
                               "mean_token_norm",
                               "final_norm_last_token",
                               "final_norm_mean_token",
                               "gain",
                               "last_gain_after_norm",
                               "boundary_cosine",
                               "attention_write_norm",
                               "attention_write_cosine",
                               "mlp_write_norm",
                               "mlp_write_cosine",
                               "max_abs_entry",
                               "max_abs_token",
                               "max_abs_channel",
                               "massive_ratio",
                               "kurtosis",
                               "matrix_entropy",
                               "anisotropy"};
  expected.insert(expected.end(), of_residual.begin(), of_residual.end());
  ResultTree now = tree();
  EXPECT_EQ(names_of_datasets(rows(now)), expected);
  EXPECT_EQ(names_of_dimensions(rows(now)), common);
  EXPECT_EQ(names_of_dimensions(*now.find(group_of_statistics("s"))),
            (Strings{"statistic", "layer", "head", "boundary"}));
  EXPECT_TRUE(copied_.empty());

  run(chosen({"attention"}));
  const Strings of_attention = {"row_entropy",
                                "sparsity",
                                "flat_entropy",
                                "row_entropy_mean_attention",
                                "sparsity_mean_attention",
                                "flat_entropy_mean_attention"};
  expected.insert(expected.begin() + static_cast<std::ptrdiff_t>(facts.size()), of_attention.begin(),
                  of_attention.end());
  now = tree();
  EXPECT_EQ(names_of_datasets(rows(now)), expected);
  EXPECT_EQ(names_of_dimensions(rows(now)), common);
  EXPECT_EQ(copied_, (std::set<std::string>(of_residual.begin(), of_residual.end())));

  run(chosen({"sheaf"}));
  now = tree();
  EXPECT_EQ(names_of_dimensions(rows(now)), (Strings{"prompt", "layer", "head", "boundary", "beta", "token"}));
  EXPECT_EQ(names_of_dimensions(*now.find(group_of_statistics("s"))),
            (Strings{"statistic", "layer", "head", "boundary", "beta"}));
}

// A job that says nothing of the grid, or another one, leaves what is there under its own.
TEST_F(GrownSet, keeps_its_grid_and_values_whatever_a_later_job_says) {
  run(chosen({"sheaf"}));
  const ResultTree before = tree();
  run(on_grid(AnalysisChoice::of({"sheaf", "residual"}), 5));
  const ResultTree after = tree();
  const auto grid = [&](const ResultTree& of) {
    return std::get<std::vector<double>>(rows(of).find_dimension("beta")->values);
  };
  EXPECT_EQ(grid(before).size(), 3u);
  EXPECT_EQ(grid(after), grid(before));
  for (const auto& group : before.groups)
    for (const Dataset& dataset : group.datasets) {
      const Dataset* now = after.find(group.path)->find(dataset.name);
      ASSERT_NE(now, nullptr) << dataset.name;
      if (std::holds_alternative<std::vector<double>>(dataset.values) && !dataset.dims.empty()) {
        const auto &old_values = std::get<std::vector<double>>(dataset.values),
                   &new_values = std::get<std::vector<double>>(now->values);
        ASSERT_EQ(new_values.size(), old_values.size());
        EXPECT_EQ(std::memcmp(new_values.data(), old_values.data(), old_values.size() * sizeof(double)), 0)
            << dataset.name;
      }
    }
}

// What was kept stays kept.
TEST_F(GrownSet, keeps_what_was_kept) {
  run(chosen({"sheaf"}), {}, {KeepChoice::Which::all, {}});
  ASSERT_NE(rows(tree()).find("heat_capacity"), nullptr);
  run(chosen({"sheaf", "residual"}), {}, {KeepChoice::Which::listed, {}});
  const ResultTree now = tree();
  EXPECT_NE(rows(now).find("heat_capacity"), nullptr);
  EXPECT_EQ(rows(now).find("gain"), nullptr);
  EXPECT_NE(now.find(group_of_statistics("s"))->find("gain"), nullptr);
}

TEST_F(GrownSet, rows_are_those_of_their_prompts) {
  run(chosen({"residual"}));
  run(chosen({"attention"}));
  const ResultTree now = tree();
  for (const auto& name : {"gain", "row_entropy"}) {
    const auto& values = std::get<std::vector<double>>(rows(now).find(name)->values);
    const std::size_t slots = values.size() / 4;
    for (std::size_t prompt = 0; prompt < 4; ++prompt)
      for (std::size_t i = 0; i < slots; ++i) {
        const double found = values[prompt * slots + i];
        if (prompt == 1)
          EXPECT_TRUE(std::isnan(found)) << "cannot run";
        else
          EXPECT_EQ(found, value_of(name, prompt, i)) << name << " " << prompt << " " << i;
      }
  }
}

TEST_F(GrownSet, errors_of_prompts_are_those_of_all_that_it_holds) {
  run(chosen({"residual"}), {.prompts = {{2, "not finite"}}});
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "not finite", ""}));
  run(chosen({"attention"}), {.prompts = {{0, "too sharp"}, {2, "too sharp"}}});
  EXPECT_EQ(errors(tree()), (Strings{"too sharp", "too long", "too sharp; not finite", ""}));
  run(chosen({"sheaf"}));
  EXPECT_EQ(errors(tree()), (Strings{"too sharp", "too long", "too sharp; not finite", ""}));
  EXPECT_EQ(errors(tree(), kPromptErrorByAnalysis),
            (Strings{R"({"attention":"too sharp"})", "", R"({"attention":"too sharp","residual":"not finite"})", ""}));
}

TEST_F(GrownSet, errors_go_with_the_last_of_what_they_were_of) {
  run(chosen({"residual"}), {.prompts = {{2, "not finite"}}}, {KeepChoice::Which::listed, {}});
  run(chosen({"residual"}));  // kept now: all of it is made again
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "", ""}));
}

TEST_F(GrownSet, errors_of_failed_units_go_when_these_are_done_again) {
  run(chosen({"residual"}));
  run(chosen({"attention"}), {.units = {{2, "the disk failed"}}});
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "the disk failed", "the disk failed"}));
  run(chosen({"attention", "residual"}));  // what stays has not failed
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "", ""}));
}

// NaN never stands where nothing is said of it: another analysis that failed and was mended takes no error along.
TEST_F(GrownSet, an_error_stays_until_its_own_analysis_is_made_again) {
  run(chosen({"sheaf"}), {.prompts = {{2, "W_V is too large"}}});
  run(chosen({"residual"}), {.units = {{2, "the disk failed"}}});
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "W_V is too large; the disk failed", "the disk failed"}));
  run(chosen({"residual", "sheaf"}));
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "W_V is too large", ""}));
  run(chosen({"sheaf"}), {}, {KeepChoice::Which::all, {}});
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "", ""}));
  EXPECT_EQ(errors(tree(), kPromptErrorByAnalysis), Strings());
}

// Of units that failed, the rows of before hold NaN: all that is made again is written anew, kept now or not.
TEST_F(GrownSet, what_is_made_again_is_whole_whatever_a_job_keeps) {
  const AnalysisChoice with_eigenvalues = [] {
    std::vector<Chosen> all = {*chosen({"sheaf"}).find("sheaf")};
    all.front().settings["graph_eigenvalues"] = true;
    return AnalysisChoice(all);
  }();
  const KeepChoice all{KeepChoice::Which::all, {}};
  run(with_eigenvalues, {}, all);
  const std::string at_once = digest_tree(tree());
  std::filesystem::remove(path());
  run(with_eigenvalues, {.units = {{2, "the disk failed"}}}, all);
  EXPECT_NE(digest_tree(tree()), at_once);
  run(chosen({"sheaf"}), {}, {KeepChoice::Which::listed, {}});
  EXPECT_EQ(digest_tree(tree()), at_once);
}

TEST_F(GrownSet, failed_units_say_of_which_analyses_they_were) {
  const auto attributes = [&] {
    std::map<std::string, AttributeValue> all;
    const ResultTree now = tree();
    for (const auto& [name, value] : rows(now).attributes) all[name] = value;
    all.erase("prompt_sha256");
    return all;
  };
  using Expected = std::map<std::string, AttributeValue>;
  run(chosen({"residual"}), {.units = {{0, "the disk failed"}}});
  EXPECT_EQ(attributes(),
            (Expected{{"failed_units", std::int64_t{1}}, {"failed_analyses", std::string(R"({"residual":1})")}}));
  EXPECT_EQ(errors(tree()), (Strings{"the disk failed", "too long", "", ""}));
  // Another job, for other analyses: those of before stay failed. In the catalogue's order.
  run(chosen({"attention", "sheaf"}), {.units = {{2, "no memory"}}});
  EXPECT_EQ(attributes(), (Expected{{"failed_units", std::int64_t{2}},
                                    {"failed_analyses", std::string(R"({"attention sheaf":1,"residual":1})")}}));
  run(chosen({"sheaf"}));
  EXPECT_EQ(attributes(), (Expected{{"failed_units", std::int64_t{2}},
                                    {"failed_analyses", std::string(R"({"attention":1,"residual":1})")}}));
  EXPECT_EQ(errors(tree()), (Strings{"the disk failed", "too long", "no memory", "no memory"}));
  // All of them again, and all is well.
  run(chosen({"attention", "sheaf", "residual"}));
  EXPECT_EQ(attributes(), Expected());
  EXPECT_EQ(errors(tree()), (Strings{"", "too long", "", ""}));
  const std::string mended = digest_tree(tree());
  std::filesystem::remove(path());
  run(chosen({"attention", "sheaf", "residual"}));
  EXPECT_EQ(digest_tree(tree()), mended);
}

TEST(Derived, values_follow_slot_by_slot) {
  const Quantity quantity{.name = "half", .derived = {"whole", [](double whole, double at) { return whole / at; }}};
  const Array source{{2, 1, 3}, {2, 4, 6, 8, 10, 12}};
  std::vector<double> values;
  for_each_derived(quantity, source, {2, 4, 0.5}, [&](const Array& some) {
    EXPECT_EQ(some.shape.size(), 3u);
    values.insert(values.end(), some.values.begin(), some.values.end());
  });
  EXPECT_EQ(values, (std::vector<double>{1, 1, 12, 4, 2.5, 24}));
}

/// Groups of weights of the model: layers at their places, failures counted by analysis.
TEST(Assembly, weights_of_layers_stand_at_their_places) {
  const OpenModel model =
      open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/gpt2", IoMode::automatic);
  const AnalysisChoice choice = AnalysisChoice::of({"weights", "heads"});
  const ModelPlan plan = plan_model(model.description, choice, {}, {});
  Assembly assembly(model.description, plan, Slicing::correct, {});
  for (std::size_t u = plan.units.size(); u-- > 0;) {
    const LayerWork& work = *plan.units[u].of_layer();
    Record record;
    if (work.analysis->name() == "heads" && work.layer > 0) {
      record.error = "layer " + std::to_string(work.layer) + " is not finite";
    } else {
      const Extents extents = choice.find(work.analysis->name())->extents(model.description, Slicing::correct);
      for (const Quantity& quantity : work.analysis->info().quantities) {
        Array& array = record.arrays[quantity.name] = Array::filled_with_nan(shape_of(quantity, extents, "layer"));
        for (double& value : array.values) value = static_cast<double>(work.layer);
      }
    }
    assembly.add(u, record);
  }
  EXPECT_EQ(assembly.num_units_done(), 3 + 1);
  const auto groups = assembly.take_weights();
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_FALSE(has_failed_units(groups[0]));
  EXPECT_EQ(num_failed_units(groups[1]), 2);
  const ResultTree whole{{}, groups};
  EXPECT_EQ(num_failed_units(whole), 2);
  EXPECT_EQ(group_errors_in(whole), Strings{"layer 1 is not finite\nlayer 2 is not finite"});
  const auto& norms = std::get<std::vector<double>>(groups[0].find("spectral_norm")->values);
  EXPECT_EQ(norms, (std::vector<double>{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2}));
  const auto& of_heads = std::get<std::vector<double>>(groups[1].find("spectral_norm")->values);
  for (std::size_t i = 0; i < of_heads.size(); ++i) EXPECT_EQ(std::isnan(of_heads[i]), i >= of_heads.size() / 3) << i;
}

}  // namespace
}  // namespace spectrace
