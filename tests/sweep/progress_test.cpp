#include "spectrace/sweep/progress.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "spectrace/core/file.hpp"
#include "spectrace/core/json.hpp"
#include "support/temp_folder.hpp"

namespace spectrace {
namespace {

/// Two of four models are opened; a quarter of their work was done by an earlier start, another quarter by this one.
SweepState half_done() {
  return {.num_models = 4,
          .num_opened = 2,
          .num_finished = 1,
          .known_flops = 200,
          .done_flops = 100,
          .earlier_flops = 50,
          .num_ranks = 3,
          .num_busy = 2};
}

TEST(SweepState, models_that_nobody_has_opened_count_as_the_mean_of_the_others) {
  EXPECT_DOUBLE_EQ(half_done().fraction(), 0.25);
  // 50 flops took 10 s; 300 are left.
  EXPECT_DOUBLE_EQ(half_done().seconds_to_go(10), 60);
}

TEST(SweepState, nothing_is_promised_before_anything_is_known_or_done) {
  SweepState state;
  state.num_models = 4;
  EXPECT_EQ(state.fraction(), 0);
  EXPECT_TRUE(std::isnan(state.seconds_to_go(10)));
  state = half_done();
  state.done_flops = state.earlier_flops;  // of this start nothing yet
  EXPECT_TRUE(std::isnan(state.seconds_to_go(10)));
}

TEST(SweepState, a_share_is_between_nothing_and_all) {
  SweepState state = half_done();
  state.done_flops = 1000;  // what fails and is done again counts twice
  EXPECT_EQ(state.fraction(), 1);
  EXPECT_EQ(state.seconds_to_go(10), 0);
  for (const char* end : {"done", "done with errors"}) {
    state = half_done();
    state.state = end;
    EXPECT_EQ(state.fraction(), 1);
    EXPECT_EQ(state.seconds_to_go(10), 0);
    state.earlier_flops = state.done_flops;  // nothing was to do
    EXPECT_EQ(state.seconds_to_go(10), 0);
  }
}

TEST(ProgressDisplay, writes_for_pollers) {
  const TempFolder folder;
  const auto path = folder.path() / "progress.json";
  ProgressDisplay display(path);
  display.write(half_done());
  Json json = Json::parse(read_text_file(path));
  EXPECT_EQ(json["state"], "running");
  EXPECT_EQ(json["fraction"], 0.25);
  EXPECT_EQ(json["num_models"], 4);
  EXPECT_EQ(json["num_models_done"], 1);
  EXPECT_EQ(json["num_ranks"], 3);
  EXPECT_EQ(json["num_ranks_at_work"], 2);
  EXPECT_TRUE(json["seconds_to_go"].is_number());
  display.write({});
  json = Json::parse(read_text_file(path));
  EXPECT_TRUE(json["seconds_to_go"].is_null());
}

TEST(ProgressDisplay, what_cannot_be_written_is_one_warning) {
  const TempFolder folder;
  ProgressDisplay display(folder.path() / "absent" / "progress.json");
  testing::internal::CaptureStderr();
  display.write({});
  display.write({});
  const std::string said = testing::internal::GetCapturedStderr();
  const auto first = said.find("The run goes on without it.");
  EXPECT_NE(first, std::string::npos) << said;
  EXPECT_EQ(said.find("The run goes on without it.", first + 1), std::string::npos) << said;
}

}  // namespace
}  // namespace spectrace
