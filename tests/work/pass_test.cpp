#include "spectrace/work/pass.hpp"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <string>

#include "spectrace/core/stage_times.hpp"
#include "work/copied_model.hpp"

namespace spectrace {
namespace {

/// The first of two stages over a small committed model.
class FirstStage : public testing::Test {
 protected:
  FirstStage()
      : model_(open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/gpt2",
                                 IoMode::automatic)),
        stream_(model_, ComputeType::float32, Slicing::correct) {
    const AnalysisChoice residual = AnalysisChoice::of({"residual"});
    std::vector<PreparedSet> sets = {PreparedSet{"s", {{"a", {1, 2, 3}, ""}, {"b", {4, 5}, ""}}}};
    PlanOptions plan_options;
    plan_options.tokens_per_batch = 3;
    plan_ = plan_model(model_.description, residual, planned(std::move(sets), residual), plan_options);
    options_.num_stages = 2;
    options_.layers = {0, 1};
    events_.on_done = [this](std::size_t unit, Record record) { done_[unit] = std::move(record); };
    events_.on_progress = [](double) {};
    events_.stop_requested = [] { return false; };
    events_.on_state = [](std::size_t, BatchState) { ADD_FAILURE(); };
    events_.find_state = [](std::size_t) { return std::nullopt; };
  }

  OpenModel model_;
  LayerStream stream_;
  ModelPlan plan_;
  PassOptions options_;
  PassEvents events_;
  std::map<std::size_t, Record> done_;
};

// What sending needs of the checkpoint may fail: that is the batch's failure, and neither the pass's nor the run's.
TEST_F(FirstStage, a_batch_that_cannot_be_sent_fails_alone) {
  std::vector<std::size_t> sent;
  events_.send = [&](std::size_t unit, BatchState) {
    if (unit == 0) throw InputError(ErrorKind::io, "cannot read 'model.safetensors'", "Input/output error");
    sent.push_back(unit);
    return true;
  };
  ASSERT_EQ(plan_.units.size(), 2u);
  EXPECT_TRUE(run_pass(stream_, plan_, {0, 1}, options_, events_));
  EXPECT_EQ(sent, std::vector<std::size_t>{1});
  ASSERT_EQ(done_.size(), 1u);
  EXPECT_EQ(done_.at(0).error, "cannot read 'model.safetensors' (Input/output error)");
}

/// Spectra of layers and a batch of prompts, of a model of two layers.
class WholePass : public testing::Test {
 protected:
  using Records = std::map<std::string, Record>;  // by the unit's key without its hash

  void SetUp() override { set_compute_threads(1); }
  void TearDown() override { set_compute_threads(1); }

  static Records run(const CopiedModel& copy, std::int64_t layers_in_flight) {
    const OpenModel model = copy.open();
    const AnalysisChoice choice = AnalysisChoice::of({"weights", "heads", "unembedding", "sheaf", "residual"});
    const ModelPlan plan = plan_model(
        model.description, choice, planned({PreparedSet{"s", {{"a", {1, 2, 3}, ""}, {"b", {4, 5}, ""}}}}, choice), {});
    PassOptions options;
    options.layers = {0, model.description.num_layers};
    options.layers_in_flight = layers_in_flight;
    Records records;
    double flops = 0;
    PassEvents events;
    events.on_done = [&](std::size_t unit, Record record) {
      const std::string& key = plan.units[unit].key;
      EXPECT_TRUE(records.emplace(key.substr(0, key.rfind('-')), std::move(record)).second) << key;
    };
    events.on_progress = [&](double more) { flops += more; };
    events.stop_requested = [] { return false; };
    events.on_state = [](std::size_t, const BatchState&) { ADD_FAILURE(); };
    events.find_state = [](std::size_t) { return std::nullopt; };
    std::vector<std::size_t> all(plan.units.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    LayerStream stream(model, ComputeType::float32, Slicing::correct);
    EXPECT_TRUE(run_pass(stream, plan, all, options, events));
    EXPECT_EQ(records.size(), plan.units.size());
    EXPECT_NEAR(flops, plan.total_flops(), 1e-9 * plan.total_flops());
    return records;
  }

  static void expect_same(const Records& records, const Records& expected) {
    ASSERT_EQ(records.size(), expected.size());
    for (const auto& [key, record] : expected) EXPECT_EQ(encode_record(records.at(key)), encode_record(record)) << key;
  }
};

TEST_F(WholePass, layers_side_by_side_have_the_bits_of_one_after_the_other) {
  const CopiedModel copy("llama");
  const Records one = run(copy, 1);
  for (const auto& [key, record] : one) EXPECT_EQ(record.error, "") << key;
  for (const int threads : {1, 3}) {
    set_compute_threads(threads);
    expect_same(run(copy, 2), one);
  }
}

// Where time goes must not say that the forward pass is slow when graphs' spectra are.
TEST_F(WholePass, what_is_taken_of_attention_meanwhile_is_the_statistics_time) {
  const CopiedModel copy("llama");
  for (const int threads : {1, 3}) {
    set_compute_threads(threads);
    const StageTimes before = stage_times();
    run(copy, 1);
    StageTimes spent = stage_times() - before;
    EXPECT_GT(spent.seconds_of(Stage::statistics), 0) << threads << " threads";
  }
}

// A layer that cannot be read has its own turn, and costs no other unit anything.
TEST_F(WholePass, a_matrix_that_cannot_be_read_is_the_failure_of_those_who_need_it) {
  const CopiedModel whole("llama"), copy("llama", broken("o_proj.weight"));
  const Records good = run(whole, 1);
  for (const std::int64_t in_flight : {1, 2}) {
    SCOPED_TRACE(in_flight);
    const Records records = run(copy, in_flight);
    for (const auto& [key, record] : records) {
      if (key == "weights/0" || key == "heads/0" || key == "prompts/s/0")
        EXPECT_NE(record.error.find("o_proj.weight"), std::string::npos) << key << ": " << record.error;
      else
        EXPECT_EQ(encode_record(record), encode_record(good.at(key))) << key;
    }
  }
}

// The prompts' sheaves need W_V's spectra, and so do the heads; the matrices fail by themselves.
TEST_F(WholePass, the_same_error_is_said_of_every_unit_that_has_it) {
  const CopiedModel copy("llama", broken("v_proj.weight"));
  const Records records = run(copy, 2);
  EXPECT_EQ(records.at("weights/0").error, records.at("heads/0").error);
  EXPECT_NE(records.at("weights/0").error, "");
  EXPECT_EQ(records.at("weights/1").error, "");
  EXPECT_EQ(records.at("heads/1").error, "");
  EXPECT_EQ(records.at("unembedding").error, "");
}

}  // namespace
}  // namespace spectrace
