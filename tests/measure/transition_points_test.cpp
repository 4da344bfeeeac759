#include "spectrace/measure/transition_points.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "spectrace/core/floats.hpp"

namespace spectrace {
namespace {

TEST(LStar, by_hand) {
  EXPECT_EQ(l_star_trace({0, 1, 5, 6, 6}), 1);  // slopes 1, 2.5, 2.5, .5, 0: the first of the steepest
  EXPECT_EQ(l_star_trace({10, 1, 1}), 0);
  EXPECT_TRUE(std::isnan(l_star_trace({3})));
  EXPECT_TRUE(std::isnan(l_star_trace({3, kNaN, 4})));
  EXPECT_EQ(l_star_entropy({0, 0.2, 0.6, 1}), 2);
  EXPECT_EQ(l_star_entropy({1, 0.6, 0.4, 0}), 2);
  EXPECT_EQ(l_star_entropy({0.5, 0.9, 0.5}), 0);
  EXPECT_EQ(l_star_sign_change({1, 2, 3, 2, 3, 1}), 2);
  EXPECT_TRUE(std::isnan(l_star_sign_change({3, 2, 1})));
}

}  // namespace
}  // namespace spectrace
