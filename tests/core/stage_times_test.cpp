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
  const StageTimes before = stage_times();
  count_flops(Stage::matrices, 3);
  count_flops(Stage::matrices, 4);
  count_bytes(Stage::reading, 5);
  const StageTimes spent = stage_times() - before;
  EXPECT_EQ(7, spent.flops[static_cast<std::size_t>(Stage::matrices)]);
  EXPECT_EQ(5u, spent.bytes[static_cast<std::size_t>(Stage::reading)]);
  EXPECT_EQ(0, spent.flops[static_cast<std::size_t>(Stage::forward)]);
}

TEST(StageTimes, task_time_moves_by_the_number_of_threads) {
  set_num_threads(2);
  const StageTimes before = stage_times();
  move_task_time(Stage::forward, Stage::statistics, 6);
  StageTimes spent = stage_times() - before;
  EXPECT_DOUBLE_EQ(-3, spent.seconds_of(Stage::forward));
  EXPECT_DOUBLE_EQ(3, spent.seconds_of(Stage::statistics));
  set_num_threads(1);
}

}  // namespace
}  // namespace spectrace
