#include "spectrace/plan/model_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "spectrace/model/prediction.hpp"
#include "spectrace/plan/model_load.hpp"
#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

PreparedSet set_of_lengths(const std::vector<std::size_t>& lengths) {
  PreparedSet set{"s", {}};
  for (const std::size_t length : lengths)
    set.prompts.push_back({std::to_string(set.prompts.size()), std::vector<std::int64_t>(length, 1), ""});
  return set;
}

TEST(MakeBatches, prompts_in_order_up_to_the_limit) {
  using Batches = std::vector<std::vector<std::size_t>>;
  EXPECT_EQ(make_batches(set_of_lengths({4, 4, 2, 1, 8}), 10), (Batches{{0, 1, 2}, {3, 4}}));
  EXPECT_EQ(make_batches(set_of_lengths({20, 1, 20}), 10), (Batches{{0}, {1}, {2}}));
  PreparedSet with_error = set_of_lengths({3, 3, 3});
  with_error.prompts[1].error = "too long";
  EXPECT_EQ(make_batches(with_error, 10), (Batches{{0, 2}}));
  EXPECT_TRUE(make_batches(set_of_lengths({}), 10).empty());
}

OpenModel open_case(const std::string& name) {
  return open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model" / name, IoMode::automatic);
}

TEST(PlanModel, every_layer_every_row_and_every_prompt_that_runs_once) {
  const OpenModel model = open_case("gpt2");
  const AnalysisChoice choice = AnalysisChoice::of({"weights", "heads", "unembedding", "attention", "residual"});
  PreparedSet set = set_of_lengths({4, 4, 2, 1, 8});
  set.prompts[1].error = "too long";
  PlanOptions options;
  options.tokens_per_batch = 7;
  const ModelPlan plan = plan_model(model.description, choice, planned({set}, choice), options);
  EXPECT_EQ(plan.of_weights.names(), (std::vector<std::string>{"weights", "heads", "unembedding"}));
  ASSERT_EQ(plan.sets.size(), 1u);
  EXPECT_EQ(plan.sets[0].analyses.names(), (std::vector<std::string>{"attention", "residual"}));
  std::set<std::pair<std::string, std::int64_t>> layers;
  std::vector<std::size_t> prompts;
  std::int64_t rows = 0, tokens = 0;
  std::set<std::string> keys;
  for (const Unit& unit : plan.units) {
    EXPECT_TRUE(keys.insert(unit.key).second) << unit.key;
    EXPECT_GT(unit.flops, 0);
    EXPECT_EQ(unit.analysis() == nullptr, unit.of_batch() != nullptr);
    if (const LayerWork* layer = unit.of_layer()) {
      EXPECT_TRUE(layers.emplace(unit.analysis()->name(), layer->layer).second);
    } else if (const RowsWork* part = unit.of_rows()) {
      EXPECT_EQ(part->rows.first, rows);
      EXPECT_FALSE(part->is_part);
      rows = part->rows.last();
    } else {
      prompts.insert(prompts.end(), unit.of_batch()->prompts.begin(), unit.of_batch()->prompts.end());
      tokens += unit.of_batch()->num_tokens;
    }
  }
  EXPECT_EQ(layers.size(), static_cast<std::size_t>(2 * model.description.num_layers));
  EXPECT_EQ(rows, model.description.vocab_size);
  EXPECT_EQ(prompts, (std::vector<std::size_t>{0, 2, 3, 4}));
  EXPECT_EQ(tokens, 4 + 2 + 1 + 8);
}

/// What its head is made of belongs to a batch that goes through it, and so does its time; to no other one.
TEST(PlanModel, a_batch_that_is_predicted_needs_the_head_and_its_time) {
  const OpenModel model = open_case("gptj");  // whose head has a bias
  const ModelDescription& d = model.description;
  const auto batch_with = [&](const AnalysisChoice& choice) {
    return plan_model(d, choice, planned({set_of_lengths({4, 6})}, choice), {}).units.at(0);
  };
  const Unit plain = batch_with(AnalysisChoice::of({"residual"})),
             predicted = batch_with(AnalysisChoice::of({"residual", "prediction"}));
  const double flops = prediction_flops(d, 4) + prediction_flops(d, 6);
  EXPECT_GT(flops, 0);
  EXPECT_NEAR(predicted.flops - plain.flops, flops, 1e-9 * flops);
  const std::vector<std::string> without = tensors_of(d, plain), with = tensors_of(d, predicted);
  std::set<std::string> more(with.begin(), with.end());
  for (const std::string& tensor : without) EXPECT_EQ(more.erase(tensor), 1u) << tensor;
  EXPECT_EQ(more, (std::set<std::string>{d.embedding.unembedding.tensor, d.embedding.unembedding_bias->tensor}));
  EXPECT_TRUE(std::is_sorted(with.begin(), with.end()));
}

TEST(PlanModel, the_last_layer_costs_what_comes_behind_it) {
  const OpenModel model = open_case("llama");
  const auto costs_with = [&](const AnalysisChoice& choice) {
    return layer_costs(model.description,
                       plan_model(model.description, choice, planned({set_of_lengths({4, 6})}, choice), {}));
  };
  const std::vector<double> plain = costs_with(AnalysisChoice::of({"residual"})),
                            predicted = costs_with(AnalysisChoice::of({"prediction"}));
  ASSERT_EQ(plain.size(), predicted.size());
  for (std::size_t layer = 0; layer + 1 < plain.size(); ++layer) EXPECT_EQ(plain[layer], predicted[layer]);
  // In parameters that each token meets: those of the head, and what the lens adds.
  const double behind = prediction_flops(model.description, 4) + prediction_flops(model.description, 6);
  EXPECT_NEAR(predicted.back() - plain.back(), behind / (2 * (4 + 6)), 1e-6 * behind);
}

/// The first unit's key.
std::string key_of(const std::string& analysis, const PlanOptions& options) {
  static const OpenModel model = open_case("gpt2");
  const AnalysisChoice choice = AnalysisChoice::of({analysis});
  return plan_model(model.description, choice, planned({set_of_lengths({3})}, choice), options).units.at(0).key;
}

// A record is taken up where its key says that nothing else would come out.
TEST(PlanModel, keys_change_with_what_decides_the_bits_and_with_nothing_else) {
  const PlanOptions before;
  PlanOptions tokens = before, device = before, slicing = before, dtype = before, config = before;
  tokens.tokens_per_batch = 100;
  device.device_kind = "H200";
  slicing.slicing = Slicing::as_published;
  dtype.dtype = ComputeType::float64;
  config.config = "{}";
  const auto changes = [&](const std::string& analysis, const PlanOptions& now) {
    return key_of(analysis, now) != key_of(analysis, before);
  };
  for (const auto& analysis : {"weights", "residual"}) {
    SCOPED_TRACE(analysis);
    EXPECT_FALSE(changes(analysis, before));
    const bool is_of_prompts = std::string(analysis) == "residual";
    EXPECT_EQ(changes(analysis, tokens), is_of_prompts);
    EXPECT_EQ(changes(analysis, device), is_of_prompts);
    EXPECT_TRUE(changes(analysis, slicing));
    EXPECT_TRUE(changes(analysis, dtype));
    EXPECT_TRUE(changes(analysis, config));
  }
}

TEST(PlanModel, keys_of_prompts_hold_their_tokens_analyses_and_what_is_asked_of_these) {
  const OpenModel model = open_case("gpt2");
  const auto key = [&](const AnalysisChoice& choice, std::int64_t token) {
    PreparedSet set = set_of_lengths({3});
    set.prompts[0].token_ids[1] = token;
    return plan_model(model.description, choice, planned({set}, choice), {}).units.at(0).key;
  };
  const AnalysisChoice sheaf = AnalysisChoice::of({"sheaf"}), both = AnalysisChoice::of({"sheaf", "residual"});
  Chosen with_eigenvalues = *sheaf.find("sheaf"), other_grid = with_eigenvalues;
  with_eigenvalues.settings["graph_eigenvalues"] = true;
  other_grid.settings["beta"]["count"] = 24;
  std::set<std::string> keys = {key(sheaf, 1), key(sheaf, 2), key(both, 1), key(AnalysisChoice({with_eigenvalues}), 1),
                                key(AnalysisChoice({other_grid}), 1)};
  EXPECT_EQ(keys.size(), 5u);
  EXPECT_EQ(key(sheaf, 1), key(sheaf, 1));
}

}  // namespace
}  // namespace spectrace
