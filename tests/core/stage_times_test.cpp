#include "spectrace/core/stage_times.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "spectrace/core/parallel.hpp"

namespace spectrace {
namespace {

void wait_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST(StageTimes, inner_timers_stop_the_outer_one) {
  const StageTimes before = stage_times();
  const auto start = std::chrono::steady_clock::now();
  {
    const StageTimer outer(Stage::forward);
    wait_ms(5);
    {
      const StageTimer inner(Stage::reading);
      wait_ms(20);
    }
    wait_ms(5);
  }
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  StageTimes spent = stage_times() - before;
  EXPECT_GE(spent.seconds_of(Stage::reading), 0.020);
  EXPECT_GE(spent.seconds_of(Stage::forward), 0.010);
  // Nothing is counted twice.
  EXPECT_LE(spent.seconds_of(Stage::reading) + spent.seconds_of(Stage::forward), all);
}

TEST(StageTimes, flops_and_bytes_add_up) {
  constexpr Stage spectra = Stage::first_analysis;
  const StageTimes before = stage_times();
  count_flops(spectra, 3);
  count_flops(spectra, 4);
  count_bytes(Stage::reading, 5);
  const StageTimes spent = stage_times() - before;
  EXPECT_EQ(7, spent.flops[static_cast<std::size_t>(spectra)]);
  EXPECT_EQ(5u, spent.bytes[static_cast<std::size_t>(Stage::reading)]);
  EXPECT_EQ(0, spent.flops[static_cast<std::size_t>(Stage::forward)]);
}

/// Seconds since some moment.
double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Each task's time counts by the number of threads, on whichever thread it ran.
TEST(TaskStageTimer, in_a_task_moves_its_share_out_of_the_loop) {
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    double least_s[3], most_s[3];
    const StageTimes before = stage_times();
    parallel_for(3, [&](std::int64_t task) {
      const double start = now_s();
      double inside = 0;
      {
        const TaskStageTimer timer(Stage::forward, Stage::statistics);
        inside = now_s();
        wait_ms(4);
        least_s[task] = now_s() - inside;
      }
      most_s[task] = now_s() - start;
    });
    StageTimes spent = stage_times() - before;
    EXPECT_GE(spent.seconds_of(Stage::statistics), (least_s[0] + least_s[1] + least_s[2]) / threads * (1 - 1e-9));
    EXPECT_LE(spent.seconds_of(Stage::statistics), (most_s[0] + most_s[1] + most_s[2]) / threads * (1 + 1e-9));
    EXPECT_NEAR(spent.seconds_of(Stage::forward), -spent.seconds_of(Stage::statistics), 1e-9);
  }
  set_num_threads(1);
}

// The forward pass observes long prompts outside of tasks, whatever the number of threads: all of that time is the
// statistics', and what observes inside of a task of theirs is not counted a second time.
TEST(TaskStageTimer, outside_of_tasks_counts_whole) {
  set_num_threads(3);
  const StageTimes before = stage_times();
  const double start = now_s();
  {
    const StageTimer loop(Stage::forward);
    wait_ms(3);
    {
      const TaskStageTimer timer(Stage::forward, Stage::statistics);
      wait_ms(30);
      parallel_for(3, [](std::int64_t) { wait_ms(1); });
    }
    wait_ms(3);
  }
  const double all = now_s() - start;
  StageTimes spent = stage_times() - before;
  EXPECT_GE(spent.seconds_of(Stage::statistics), 0.031);
  EXPECT_GE(spent.seconds_of(Stage::forward), 0.006);
  EXPECT_LE(spent.seconds_of(Stage::statistics) + spent.seconds_of(Stage::forward), all);
  set_num_threads(1);
}

}  // namespace
}  // namespace spectrace
