#include "spectrace/core/awake_time.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "spectrace/core/stopwatch.hpp"

namespace spectrace {
namespace {

void sleep_s(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

TEST(AwakeTime, counts_what_passes_between_ticks) {
  AwakeTime awake;
  const Stopwatch watch;
  for (int i = 0; i < 10; ++i) {
    sleep_s(0.01);
    awake.tick();
  }
  EXPECT_GE(awake.passed_s(), 0.1);
  EXPECT_LE(awake.passed_s(), watch.elapsed_s());
}

TEST(AwakeTime, of_a_time_without_ticks_little_counts) {
  AwakeTime awake;
  sleep_s(2 * AwakeTime::kMostBetweenTicks_s);
  awake.tick();
  EXPECT_EQ(awake.passed_s(), AwakeTime::kMostBetweenTicks_s);
}

}  // namespace
}  // namespace spectrace
