#include "spectrace/results/record_fit.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/floats.hpp"
#include "spectrace/measure/catalogue.hpp"
#include "spectrace/measure/prompts.hpp"
#include "support/plain_layers.hpp"

namespace spectrace {
namespace {

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

/// Three layers, two heads of three dimensions, one of keys and values for both.
ModelDescription model_of_three_layers() {
  ModelDescription model;
  model.num_layers = 3;
  model.num_heads = 2;
  model.num_kv_heads = 1;
  model.head_dim = 3;
  model.hidden_size = 5;
  model.embedding.unembedding.shape = {30, 5};
  set_plain_layers(model);
  return model;
}

TEST(RecordFit, arrays_must_be_those_of_the_unit) {
  const ModelDescription model = model_of_three_layers();
  ModelPlan plan;
  plan.of_weights = AnalysisChoice::of({"weights", "unembedding"});
  const Unit unit{.work = LayerWork{dynamic_cast<const LayerAnalysis*>(find_analysis("weights")), 1}};
  const auto misfit = [&](const Record& record, const Unit& of) {
    return find_misfit(record, of, model, plan, Slicing::correct);
  };
  Record record;
  for (const Quantity& quantity : unit.analysis()->info().quantities)
    record.arrays[quantity.name] = Array::filled_with_nan(quantity.dims.size() == 3 ? std::vector<std::int64_t>{4, 5}
                                                                                    : std::vector<std::int64_t>{4});
  EXPECT_EQ(misfit(record, unit), "");
  Record other = record;
  other.arrays["spectral_norm"] = Array::filled_with_nan({5});
  EXPECT_EQ(misfit(other, unit), "array 'spectral_norm' has another shape");
  other = record;
  other.arrays.erase("spectral_norm");
  EXPECT_NE(misfit(other, unit), "");
  other.arrays["unknown"] = Array::filled_with_nan({4});
  EXPECT_EQ(misfit(other, unit), "array 'spectral_norm' is absent");
  other = record;
  other.arrays["unknown"] = Array::filled_with_nan({4});
  EXPECT_NE(misfit(other, unit), "");
  other.error = "not finite";
  EXPECT_EQ(misfit(other, unit), "");
}

TEST(RecordFit, arrays_must_be_those_of_the_rows) {
  const ModelDescription model = model_of_three_layers();
  ModelPlan plan;
  plan.of_weights = AnalysisChoice::of({"weights", "unembedding"});
  const auto* analysis = dynamic_cast<const RowsAnalysis*>(find_analysis("unembedding"));
  const Unit whole{.work = RowsWork{analysis, {0, 30}, false}}, of_part{.work = RowsWork{analysis, {0, 10}, true}};
  const auto misfit = [&](const Record& record, const Unit& unit) {
    return find_misfit(record, unit, model, plan, Slicing::correct);
  };
  Record record;
  for (const Quantity& quantity : analysis->info().quantities) {
    std::vector<std::int64_t> shape;
    for (const auto& dim : quantity.dims) shape.push_back(dim == "token" ? 30 : 5);
    record.arrays[quantity.name] = Array::filled_with_nan(shape);
  }
  EXPECT_EQ(misfit(record, whole), "");
  EXPECT_NE(misfit(record, of_part), "");

  Record part;
  part.arrays["row_norm"] = Array::filled_with_nan({10});
  part.arrays["triangle"] = Array::filled_with_nan({15});
  part.arrays["triangle_facts"] = {{4}, {0, 1.5, 5, 10}};
  EXPECT_EQ(misfit(part, of_part), "");
  EXPECT_NE(misfit(part, whole), "");
  for (const std::vector<double>& facts : {std::vector<double>{0.5, 1.5, 5, 10},
                                           {2000, 1.5, 5, 10},
                                           {0, -1, 5, 10},
                                           {0, 1.5, 0, 10},
                                           {0, 1.5, 5, 10.5},
                                           {0, kNaN, 5, 10},
                                           {0, 1.5, 5, 1e300}}) {
    part.arrays["triangle_facts"].values = facts;
    EXPECT_NE(misfit(part, of_part), "") << facts[0] << " " << facts[1];
  }
}

TEST(RecordFit, a_batch_in_the_middle_must_have_the_shapes_that_it_goes_on_with) {
  const ModelDescription model = model_of_three_layers();
  const AnalysisChoice residual = AnalysisChoice::of({"residual"});
  ModelPlan plan;
  plan.sets = planned({PreparedSet{"a", {{"0", {1, 2}, ""}, {"1", {3, 4, 5}, ""}}}}, residual);
  const Unit unit{.work = BatchWork{0, {0, 1}, 5}};
  const TokenBatch batch = batch_of(plan, *unit.of_batch());
  Record record = PromptMeasurement(model, batch, residual).so_far();
  EXPECT_EQ(find_misfit(record, unit, model, plan, Slicing::correct), "");
  EXPECT_NE(find_state_misfit(record, unit, model, plan), "");
  record.arrays["hidden"] = Array::filled_with_nan({5, 5});
  EXPECT_EQ(find_state_misfit(record, unit, model, plan), "");
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{4, 5}, {5, 4}, {25}, {5, 5, 1}, {}}) {
    Record other = record;
    other.arrays["hidden"] = Array::filled_with_nan(shape);
    EXPECT_NE(find_state_misfit(other, unit, model, plan), "") << shape.size();
  }
  Record other = record;
  other.arrays["last_token_norm"] = Array::filled_with_nan({2, 3});
  EXPECT_NE(find_state_misfit(other, unit, model, plan), "");
  EXPECT_NE(find_misfit(other, unit, model, plan, Slicing::correct), "");
  other = record;
  other.texts["prompt_errors"] = {""};
  EXPECT_NE(find_state_misfit(other, unit, model, plan), "");
  const Unit of_layer{.work = LayerWork{dynamic_cast<const LayerAnalysis*>(find_analysis("heads")), 0}};
  EXPECT_NE(find_state_misfit(record, of_layer, model, plan), "");
}

// The longest prompt of the batch decides how wide its rows of eigenvalues are.
TEST(RecordFit, rows_as_long_as_prompts_are_those_of_the_batch) {
  const ModelDescription model = model_of_three_layers();
  Chosen sheaf = *AnalysisChoice::of({"sheaf"}).find("sheaf");
  sheaf.settings["graph_eigenvalues"] = true;
  const AnalysisChoice choice({sheaf});
  ModelPlan plan;
  plan.sets = planned({PreparedSet{"a", {{"0", {1, 2}, ""}, {"1", {3, 4, 5}, ""}}}}, choice);
  const Unit shorter{.work = BatchWork{0, {0}, 2}}, longer{.work = BatchWork{0, {1}, 3}};
  const TokenBatch batch = batch_of(plan, *shorter.of_batch());
  const Record record = PromptMeasurement(model, batch, choice).so_far();
  EXPECT_EQ(find_misfit(record, shorter, model, plan, Slicing::correct), "");
  EXPECT_EQ(find_misfit(record, longer, model, plan, Slicing::correct), "array 'graph_eigenvalues' has another shape");
}

}  // namespace
}  // namespace spectrace
