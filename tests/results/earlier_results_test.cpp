#include "spectrace/results/earlier_results.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "spectrace/core/floats.hpp"
#include "spectrace/measure/prompts.hpp"
#include "spectrace/results/record_fit.hpp"
#include "spectrace/results/result_attributes.hpp"
#include "spectrace/results/summary.hpp"

#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

Group group_of(const std::string& path, const std::vector<DatasetSpec>& schema) {
  static const std::map<std::string, std::size_t> sizes = {{"layer", 2},    {"matrix", 4}, {"index", 3},
                                                           {"head", 2},     {"token", 5},  {"prompt", 2},
                                                           {"boundary", 3}, {"beta", 2},   {"graph_index", 2}};
  Group group;
  group.path = path;
  std::set<std::string> dims;
  for (const auto& spec : schema) dims.insert(spec.dims.begin(), spec.dims.end());
  for (const auto& dim : dims) {
    const DatasetSpec spec = dimension_spec(dim);
    if (dim == "statistic")
      group.dimensions.push_back({dim, statistic_names(), spec.units, spec.long_name});
    else
      group.dimensions.push_back({dim, std::vector<std::int64_t>(sizes.at(dim)), spec.units, spec.long_name});
  }
  for (const auto& spec : schema) {
    std::size_t count = 1;
    for (const auto& dim : spec.dims) count *= group.find_dimension(dim)->size();
    group.datasets.push_back({spec.name, spec.dims, spec.units, spec.long_name, std::vector<double>(count, 1.5)});
  }
  return group;
}

/// All that results may hold, small.
ResultTree whole_tree() {
  std::vector<DatasetSpec> prompts, statistics;
  for (const auto& quantity : prompt_schema()) {
    if (quantity.is_stored) prompts.push_back(quantity.dataset);
    if (!quantity.has_statistics) continue;
    statistics.push_back(quantity.dataset);
    statistics.back().dims.front() = "statistic";
  }
  for (const auto& spec : statistics_scalars_schema()) statistics.push_back(spec);
  ResultTree tree;
  tree.attributes = {{"Conventions", std::string(kConventions)},
                     {"parameters", std::string("{}")},
                     {"status", std::string("ok")},
                     {"error", std::string()},
                     {"num_layers", std::int64_t{2}},
                     {"num_heads", std::int64_t{2}},
                     {"identity", identity_to_json({{"slicing", "correct"},
                                                    {"compute dtype", "float32"},
                                                    {"tokens_per_batch", "30"},
                                                    {"beta grid", "[0.1,1.0]"}})}};
  tree.groups = {group_of("/weights", weights_schema()), group_of("/heads", heads_schema()),
                 group_of("/unembedding", unembedding_schema()), group_of("/prompts/a", prompts),
                 group_of("/prompts/a/statistics", statistics)};
  tree.groups[3].datasets.push_back(
      {"prompt_error", {"prompt"}, "1", "Why the prompt could not run", std::vector<std::string>{"", "too long"}});
  Group checkpoint;
  checkpoint.path = "/checkpoint";
  checkpoint.dimensions = {{"tensor", std::vector<std::string>{"x", "y"}, "1", "Tensor"}};
  checkpoint.datasets = {{"digest", {"tensor"}, "1", "Digest", std::vector<std::string>{"1", "2"}}};
  tree.groups.push_back(checkpoint);
  return tree;
}

/// Writes the tree, with a digest that is right, and does all that a run does with earlier results. True if they were
/// built upon.
class ResultsOfBefore : public testing::Test {
 protected:
  void SetUp() override {
    job_.output = folder_.path();
    entry_.name = "m";
    job_.models = {entry_};
    PromptSetEntry set;
    set.name = "a";
    job_.prompt_sets = {set};
  }

  bool are_built_upon(const ResultTree& tree) {
    write_result_file(result_path(job_, entry_), tree);
    // As for a model that fails for another reason: whatever the file holds, its row is written.
    const ResultTree any = read_result_file(result_path(job_, entry_), WrongDigest::unasked, kMostValuesInMemory);
    summarize(job_, entry_, {ModelStatus::failed, "something else"}, &any);
    std::optional<ResultTree> earlier;
    try {
      if (auto found = read_earlier_results(job_, entry_, WrongDigest::refused)) earlier = std::move(found->tree);
    } catch (const InputError& error) {
      EXPECT_EQ(error.kind(),
                error.problem().find("another format") == std::string::npos ? ErrorKind::model : ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find("m.h5"), std::string::npos) << error.what();
      return false;
    }
    if (!earlier) return false;
    ResultTree now;
    now.attributes = {{"parameters", std::string()}};
    add_earlier_groups(*earlier, now);
    order_groups(job_, now);
    set_effective_amplification(now);
    set_parameters(now, merged_identity(earlier, {}));
    summarize(job_, entry_, {ModelStatus::ok, ""}, &now);
    return true;
  }

  const TempFolder folder_;
  Job job_;
  ModelEntry entry_;
};

TEST_F(ResultsOfBefore, whole_ones_are_built_upon) { EXPECT_TRUE(are_built_upon(whole_tree())); }

TEST_F(ResultsOfBefore, another_format_is_refused) {
  ResultTree tree = whole_tree();
  tree.attributes.front().second = std::string("spectrace-1");
  EXPECT_FALSE(are_built_upon(tree));
}

/// Whatever can be taken out, retyped or given other dimensions, one at a time.
std::vector<std::function<void(ResultTree&)>> edits(const ResultTree& tree) {
  std::vector<std::function<void(ResultTree&)>> all;
  const std::vector<AttributeValue> others = {std::string("x"), std::int64_t{-1}, 0.5, std::string("[[1]]"),
                                              std::string("[[\"tokens_per_batch\",\"many\"]]")};
  for (std::size_t a = 0; a < tree.attributes.size(); ++a) {
    all.push_back([=](ResultTree& t) { t.attributes.erase(t.attributes.begin() + static_cast<std::ptrdiff_t>(a)); });
    for (const auto& other : others) all.push_back([=](ResultTree& t) { t.attributes[a].second = other; });
  }
  for (std::size_t g = 0; g < tree.groups.size(); ++g) {
    all.push_back([=](ResultTree& t) { t.groups.erase(t.groups.begin() + static_cast<std::ptrdiff_t>(g)); });
    all.push_back([=](ResultTree& t) { t.groups[g].datasets.clear(); });
    all.push_back([=](ResultTree& t) { t.groups[g] = {t.groups[g].path, {}, {}, {}}; });
    for (std::size_t d = 0; d < tree.groups[g].datasets.size(); ++d) {
      const auto dataset = [g, d](ResultTree& t) -> Dataset& { return t.groups[g].datasets[d]; };
      const std::vector<std::function<void(ResultTree&)>> of_dataset = {
          [=](ResultTree& t) {
            t.groups[g].datasets.erase(t.groups[g].datasets.begin() + static_cast<std::ptrdiff_t>(d));
          },
          [=](ResultTree& t) { dataset(t).name += "_"; },
          [=](ResultTree& t) {
            dataset(t).dims.clear();
            dataset(t).values = std::vector<std::string>{"x"};
          },
          [=](ResultTree& t) {
            dataset(t).dims.clear();
            dataset(t).values = std::vector<std::int64_t>{1};
          },
          [=](ResultTree& t) {
            t.groups[g].dimensions.push_back({"none", std::vector<std::int64_t>(), "1", "Nothing"});
            dataset(t).dims = {"none"};
            dataset(t).values = std::vector<double>();
          }};
      // Each kind many times, each dataset once; all of all is half a minute.
      all.push_back(of_dataset[d % of_dataset.size()]);
    }
  }
  return all;
}

// The digest is right each time: what stands between a forged file and the program is this alone. That nothing crashes
// or throws anything else is the point; those that are built upon only lack what they need not have.
TEST_F(ResultsOfBefore, forged_ones_are_refused_or_lack_nothing_that_is_needed) {
  const ResultTree whole = whole_tree();
  std::size_t num_refused = 0;
  const auto all = edits(whole);
  for (const auto& edit : all) {
    ResultTree tree = whole;
    edit(tree);
    num_refused += !are_built_upon(tree);
  }
  EXPECT_GT(num_refused, all.size() / 2);
  EXPECT_LT(num_refused, all.size());
}

TEST(RecordFit, a_record_must_say_what_it_was_made_of) {
  Record record;
  EXPECT_NE(find_misfit(record, "a unit"), "");
  record.texts = {{"tensors", {"x"}}, {"digests", {"1"}}, {"fingerprint", {"f"}}};
  EXPECT_EQ(find_misfit(record, "a unit"), "");
  record.texts["digests"].push_back("2");
  EXPECT_NE(find_misfit(record, "a unit"), "");
  record.error = "not finite";
  EXPECT_EQ(find_misfit(record, "a unit"), "");
  const std::string report = std::string(kReportKey) + "0/1";
  EXPECT_NE(find_misfit(Record(), report), "");
  Record note;
  note.texts["report"] = {"{}"};
  EXPECT_EQ(find_misfit(note, report), "");
  note.texts["report"] = {"{"};
  EXPECT_NE(find_misfit(note, report), "");
}

TEST(RecordFit, arrays_must_be_those_of_the_unit) {
  ModelDescription model;
  model.num_layers = 2;
  model.num_heads = 2;
  model.head_dim = 3;
  model.hidden_size = 5;
  Job job;
  ModelPlan plan;
  Unit unit;
  unit.kind = UnitKind::matrices;
  Record record;
  for (const auto& spec : weights_schema())
    record.arrays[spec.name] =
        Array::filled_with_nan(spec.dims.size() == 3 ? std::vector<std::int64_t>{4, 5} : std::vector<std::int64_t>{4});
  EXPECT_EQ(find_misfit(record, unit, model, plan, job), "");
  Record other = record;
  other.arrays["spectral_norm"] = Array::filled_with_nan({5});
  EXPECT_NE(find_misfit(other, unit, model, plan, job), "");
  other = record;
  other.arrays.erase("spectral_norm");
  EXPECT_NE(find_misfit(other, unit, model, plan, job), "");
  other = record;
  other.arrays["unknown"] = Array::filled_with_nan({4});
  EXPECT_NE(find_misfit(other, unit, model, plan, job), "");
  model.embedding.unembedding.shape = {30, 5};
  unit.kind = UnitKind::unembedding;
  unit.rows = {0, 30};
  EXPECT_NE(find_misfit(record, unit, model, plan, job), "");

  unit.rows = {0, 10};
  EXPECT_NE(find_misfit(record, unit, model, plan, job), "");
  Record part;
  part.arrays["row_norm"] = Array::filled_with_nan({10});
  part.arrays["triangle"] = Array::filled_with_nan({15});
  part.arrays["triangle_facts"] = {{4}, {0, 1.5, 5, 10}};
  EXPECT_EQ(find_misfit(part, unit, model, plan, job), "");
  for (const std::vector<double>& facts : {std::vector<double>{0.5, 1.5, 5, 10},
                                           {2000, 1.5, 5, 10},
                                           {0, -1, 5, 10},
                                           {0, 1.5, 0, 10},
                                           {0, 1.5, 5, 10.5},
                                           {0, kNaN, 5, 10},
                                           {0, 1.5, 5, 1e300}}) {
    part.arrays["triangle_facts"].values = facts;
    EXPECT_NE(find_misfit(part, unit, model, plan, job), "") << facts[0] << " " << facts[1];
  }
}

TEST(RecordFit, a_batch_in_the_middle_must_have_the_shapes_that_it_goes_on_with) {
  ModelDescription model;
  model.num_layers = 3;
  model.num_heads = 2;
  model.head_dim = 3;
  model.hidden_size = 5;
  Job job;
  ModelPlan plan;
  plan.analyses = {};
  plan.analyses.residual = true;
  plan.analyses.attention = plan.analyses.sheaf = false;
  plan.sets.push_back({"a", {{"0", {1, 2}, ""}, {"1", {3, 4, 5}, ""}}});
  Unit unit;
  unit.kind = UnitKind::prompts;
  unit.prompts = {0, 1};
  unit.num_tokens = 5;
  const TokenBatch batch = batch_of(plan, unit);
  Record record = PromptMeasurement(model, batch, {false, false, true, false, job.beta.values()}).so_far();
  EXPECT_NE(find_state_misfit(record, unit, model, plan, job), "");
  record.arrays["hidden"] = Array::filled_with_nan({5, 5});
  EXPECT_EQ(find_state_misfit(record, unit, model, plan, job), "");
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{4, 5}, {5, 4}, {25}, {5, 5, 1}, {}}) {
    Record other = record;
    other.arrays["hidden"] = Array::filled_with_nan(shape);
    EXPECT_NE(find_state_misfit(other, unit, model, plan, job), "") << shape.size();
  }
  Record other = record;
  other.arrays["last_token_norm"] = Array::filled_with_nan({2, 3});
  EXPECT_NE(find_state_misfit(other, unit, model, plan, job), "");
  other = record;
  other.texts["prompt_errors"] = {""};
  EXPECT_NE(find_state_misfit(other, unit, model, plan, job), "");
  unit.kind = UnitKind::heads;
  EXPECT_NE(find_state_misfit(record, unit, model, plan, job), "");
}

}  // namespace
}  // namespace spectrace
