#include "spectrace/core/time_limit.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace spectrace {
namespace {

TEST(TimeLimitDeathTest, a_step_that_takes_too_long_ends_the_process_and_says_why) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        TimeLimit limit;
        limit.begin(0.01, "rank 3 does not answer", 3);
        std::this_thread::sleep_for(std::chrono::seconds(60));
      },
      ::testing::ExitedWithCode(3), "rank 3 does not answer");
}

TEST(TimeLimit, a_step_that_is_over_has_no_limit) {
  TimeLimit limit;
  for (int i = 0; i < 3; ++i) limit.begin(3600, "never", 3);  // one takes the place of the other
  limit.end();
  limit.end();
}

}  // namespace
}  // namespace spectrace
