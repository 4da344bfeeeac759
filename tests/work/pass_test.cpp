#include "spectrace/work/pass.hpp"

#include <gtest/gtest.h>

#include "spectrace/plan/open_model.hpp"

namespace spectrace {
namespace {

/// The first of two stages over a small committed model.
class FirstStage : public testing::Test {
 protected:
  FirstStage()
      : model_(open_model_folder(std::filesystem::path(SPECTRACE_SOURCE_DIR) / "tests/data/model/gpt2",
                                 IoMode::automatic)),
        stream_(model_, ComputeType::float32, Slicing::correct) {
    const AnalysisChoice residual{false, false, false, false, false, true};
    PlanOptions plan_options;
    plan_options.tokens_per_batch = 3;
    plan_ = plan_model(model_.description, residual, {{"s", {{"a", {1, 2, 3}, ""}, {"b", {4, 5}, ""}}}}, plan_options);
    options_.prompt_analyses.residual = true;
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

}  // namespace
}  // namespace spectrace
