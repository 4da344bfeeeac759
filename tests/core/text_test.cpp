#include "spectrace/core/text.hpp"

#include <gtest/gtest.h>

namespace spectrace {
namespace {

TEST(Text, a_number_of_things) {
  EXPECT_EQ(number_of(1, "model"), "1 model");
  EXPECT_EQ(number_of(std::size_t{0}, "prompt set"), "0 prompt sets");
  EXPECT_EQ(number_of(12, "model"), "12 models");
}

}  // namespace
}  // namespace spectrace
