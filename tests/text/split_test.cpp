#include "spectrace/text/split.hpp"

#include <gtest/gtest.h>

#include "spectrace/core/error.hpp"

namespace spectrace::text {
namespace {

/// The parts of "the-final--countdown" split at "-", '|' between them.
std::string split(SplitBehavior behavior, const std::string& text = "the-final--countdown") {
  std::string joined;
  for (const Span& span : apply_behavior(find_literal(text, "-"), behavior))
    joined += (joined.empty() ? "" : "|") + text.substr(span.begin, span.end - span.begin);
  return joined;
}

TEST(Split, behaviors_are_those_of_the_documented_example) {
  EXPECT_EQ(split(SplitBehavior::removed), "the|final|countdown");
  EXPECT_EQ(split(SplitBehavior::isolated), "the|-|final|-|-|countdown");
  EXPECT_EQ(split(SplitBehavior::merged_with_previous), "the-|final-|-|countdown");
  EXPECT_EQ(split(SplitBehavior::merged_with_next), "the|-final|-|-countdown");
  EXPECT_EQ(split(SplitBehavior::contiguous), "the|-|final|--|countdown");
}

TEST(Split, delimiters_at_the_ends_stay_where_the_behavior_says) {
  EXPECT_EQ(split(SplitBehavior::merged_with_previous, "-a-"), "-|a-");
  EXPECT_EQ(split(SplitBehavior::merged_with_next, "-a-"), "-a|-");
  EXPECT_EQ(split(SplitBehavior::contiguous, "--a"), "--|a");
  EXPECT_EQ(split(SplitBehavior::removed, "--"), "");
}

TEST(Split, literals_are_found_from_the_left_without_overlap) {
  const auto spans = find_literal("aaaxaa", "aa");
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].begin, 0u);
  EXPECT_EQ(spans[1].begin, 2u);
  EXPECT_FALSE(spans[1].is_match);
  EXPECT_EQ(spans[2].begin, 4u);
  EXPECT_TRUE(spans[2].is_match);
}

TEST(Split, characters_of_several_bytes_stay_whole) {
  const std::string text = "aé漢1😀";
  std::string joined;
  for (const Span& span : find_characters(text, [](char32_t c) { return c > 0x7F; }))
    joined += text.substr(span.begin, span.end - span.begin) + (span.is_match ? "!" : ".");
  EXPECT_EQ(joined, "a.é!漢!1.😀!");
}

// Nearly a match at every place: the product of the lengths would be found out by the run's own time limit.
TEST(Split, long_literals_are_found_in_linear_time) {
  const std::string text(2'000'000, 'a'), literal = std::string(1'000'000, 'a') + "b";
  EXPECT_EQ(find_literal(text, literal).size(), 1u);
  const auto spans = find_literal(text + "b" + text, literal);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[1].begin, 1'000'000u);
  EXPECT_EQ(spans[1].end, 2'000'001u);
}

}  // namespace
}  // namespace spectrace::text
