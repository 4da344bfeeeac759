#include "spectrace/core/names.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace spectrace {
namespace {

TEST(FitsPattern, star_stands_for_any_characters) {
  EXPECT_TRUE(fits_pattern("model.layers.0.mlp.weight", "*"));
  EXPECT_TRUE(fits_pattern("", "*"));
  EXPECT_TRUE(fits_pattern("model.layers.0.mlp.weight", "*.weight"));
  EXPECT_TRUE(fits_pattern("model.layers.0.mlp.weight", "model.*.mlp.*"));
  EXPECT_TRUE(fits_pattern("a.weight.weight", "*.weight"));  // the first place that fits is not the right one
  EXPECT_TRUE(fits_pattern("abcbcd", "a*bcd"));
  EXPECT_FALSE(fits_pattern("model.layers.0.mlp.bias", "*.weight"));
  EXPECT_FALSE(fits_pattern("weight", "*.weight"));
  EXPECT_FALSE(fits_pattern("x.weights", "*.weight"));
}

TEST(FitsPattern, question_mark_stands_for_one) {
  EXPECT_TRUE(fits_pattern("h.3.w", "h.?.w"));
  EXPECT_FALSE(fits_pattern("h.13.w", "h.?.w"));
  EXPECT_FALSE(fits_pattern("h..w", "h.?.w"));
  EXPECT_TRUE(fits_pattern("h.13.w", "h.?*.w"));
  EXPECT_FALSE(fits_pattern("", "?"));
}

TEST(FitsPattern, everything_else_stands_for_itself) {
  EXPECT_TRUE(fits_pattern("w[0]", "w[0]"));
  EXPECT_FALSE(fits_pattern("w0", "w[0]"));
  EXPECT_FALSE(fits_pattern("Weight", "weight"));
  EXPECT_FALSE(fits_pattern("weight", ""));
  EXPECT_TRUE(fits_pattern("", ""));
  EXPECT_TRUE(fits_pattern("", "**"));
}

TEST(FitsPattern, many_stars_take_no_time) {
  const std::string name(20000, 'a');
  EXPECT_FALSE(fits_pattern(name, "*a*a*a*a*a*a*a*a*a*a*a*a*b"));
  EXPECT_TRUE(fits_pattern(name, "*a*a*a*a*a*a*a*a*a*a*a*a*a"));
}

TEST(ComesBefore, counts_numbers_as_numbers) {
  std::vector<std::string> names = {"h.10.w", "h.9.w",  "h.1.w", "h.2.b",  "h.2.w", "h.w",
                                    "h",      "h.02.w", "a.100", "a.99.x", "a.",    "h.123456789012345678901234567890"};
  std::sort(names.begin(), names.end(), comes_before);
  EXPECT_EQ(names, (std::vector<std::string>{"a.", "a.99.x", "a.100", "h", "h.1.w", "h.2.b", "h.02.w", "h.2.w", "h.9.w",
                                             "h.10.w", "h.123456789012345678901234567890", "h.w"}));
}

TEST(ComesBefore, is_an_order) {
  const std::vector<std::string> names = {"",
                                          "0",
                                          "00",
                                          "1",
                                          "01",
                                          "a0",
                                          "a00",
                                          "a",
                                          "a1b",
                                          "a01b",
                                          "a01a",
                                          "\xff",
                                          "a\xff"
                                          "1"};
  for (const auto& a : names)
    for (const auto& b : names) {
      EXPECT_EQ(comes_before(a, b) + comes_before(b, a), a == b ? 0 : 1) << a << " " << b;
      for (const auto& c : names) EXPECT_TRUE(!comes_before(a, b) || !comes_before(b, c) || comes_before(a, c));
    }
}

}  // namespace
}  // namespace spectrace
