#include "spectrace/numerics/attention_patterns.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace spectrace {
namespace {

/// Causal rows that sum to 1, another head from each other one.
Tensor attention(std::int64_t heads, std::int64_t n) {
  const Tensor scores = at::sin(at::arange(heads * n * n, at::kDouble)).mul_(3).reshape({heads, n, n});
  return at::softmax(scores + at::full({n, n}, -HUGE_VAL, at::kDouble).triu(1), -1);
}

/// By the definitions, pair by pair.
AttentionPattern by_definition(const Tensor& a, const std::vector<std::int64_t>& ids) {
  const auto n = static_cast<std::int64_t>(ids.size());
  const auto at = [&](std::int64_t i, std::int64_t j) { return a[i][j].item<double>(); };
  AttentionPattern sums;
  double duplicates = 0, inductions = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    bool came_before = false, was_followed = false;
    for (std::int64_t j = 0; j < i; ++j) {
      if (ids[static_cast<std::size_t>(j)] != ids[static_cast<std::size_t>(i)]) continue;
      came_before = true;
      sums.duplicate_token_score += at(i, j);
      if (j > i - 2) continue;
      was_followed = true;
      sums.induction_score += at(i, j + 1);
    }
    duplicates += came_before;
    inductions += was_followed;
    if (i == 0) continue;
    sums.first_token_mass += at(i, 0);
    sums.self_mass += at(i, i);
    sums.previous_token_mass += at(i, i - 1);
    for (std::int64_t j = 0; j < n; ++j) sums.mean_distance += at(i, j) * static_cast<double>(i - j);
  }
  const auto rows = static_cast<double>(n - 1);
  return {sums.first_token_mass / rows,
          sums.self_mass / rows,
          sums.previous_token_mass / rows,
          sums.mean_distance / rows,
          sums.duplicate_token_score / duplicates,
          sums.induction_score / inductions};
}

void expect_near(double expected, double actual, double tolerance, const char* what) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(actual)) << what;
  } else {
    EXPECT_NEAR(expected, actual, tolerance) << what;
  }
}

void expect_near(const AttentionPattern& expected, const AttentionPattern& actual, std::int64_t n) {
  // Sums of up to n^2 terms whose absolute values sum to 1 a row, or to n.
  const auto size = static_cast<double>(n);
  const double tolerance = size * size * 0x1p-53;
  expect_near(expected.first_token_mass, actual.first_token_mass, tolerance, "first_token_mass");
  expect_near(expected.self_mass, actual.self_mass, tolerance, "self_mass");
  expect_near(expected.previous_token_mass, actual.previous_token_mass, tolerance, "previous_token_mass");
  expect_near(expected.mean_distance, actual.mean_distance, size * tolerance, "mean_distance");
  expect_near(expected.duplicate_token_score, actual.duplicate_token_score, tolerance, "duplicate_token_score");
  expect_near(expected.induction_score, actual.induction_score, tolerance, "induction_score");
}

TEST(AttentionPatterns, are_those_of_the_definitions) {
  for (const std::vector<std::int64_t>& ids : std::vector<std::vector<std::int64_t>>{{7},
                                                                                     {5, 5},
                                                                                     {3, 1, 4, 15, 9, 2, 6},
                                                                                     {4, 4, 7, 4, 4, 9, 7},
                                                                                     {11, 3, 8, 30, 1, 11, 3, 8, 30, 1},
                                                                                     {6, 6, 6, 6, 6, 6, 6, 6, 6},
                                                                                     {1, 2, 1, 2, 2, 1, 3, 1}}) {
    const auto n = static_cast<std::int64_t>(ids.size());
    SCOPED_TRACE(testing::Message() << n << " tokens, the first " << ids.front());
    const Tensor a = attention(3, n);
    const auto patterns = attention_patterns(a, EarlierTokens(ids));
    ASSERT_EQ(3u, patterns.size());
    for (std::int64_t head = 0; head < 3; ++head)
      expect_near(by_definition(a[head], ids), patterns[static_cast<std::size_t>(head)], n);
  }
}

TEST(AttentionPatterns, of_float32_and_of_strided_heads_are_those_of_the_same_numbers) {
  const std::vector<std::int64_t> ids = {1, 2, 1, 2, 2, 1, 3, 1};
  const Tensor a = attention(4, 8).to(at::kFloat), wider = at::zeros({4, 16, 16}, at::kFloat);
  wider.narrow(1, 0, 8).narrow(2, 0, 8).copy_(a);
  const auto expected = attention_patterns(a.to(at::kDouble), EarlierTokens(ids));
  for (const Tensor& same : {a, wider.narrow(1, 0, 8).narrow(2, 0, 8)}) {
    const auto patterns = attention_patterns(same, EarlierTokens(ids));
    for (std::size_t head = 0; head < 4; ++head) {
      EXPECT_EQ(expected[head].mean_distance, patterns[head].mean_distance);
      EXPECT_EQ(expected[head].induction_score, patterns[head].induction_score);
    }
  }
}

TEST(AttentionPatterns, of_a_perfect_induction_head) {
  // A prompt of 5 tokens said twice; the head looks at what followed, and where nothing did at the first token.
  const std::vector<std::int64_t> ids = {9, 8, 7, 6, 5, 9, 8, 7, 6, 5};
  Tensor a = at::zeros({1, 10, 10}, at::kFloat);
  for (std::int64_t i = 0; i < 10; ++i) a[0][i][i < 5 ? 0 : i - 4] = 1;
  const AttentionPattern pattern = attention_patterns(a, EarlierTokens(ids)).front();
  EXPECT_EQ(1.0, pattern.induction_score);
  EXPECT_EQ(0.0, pattern.duplicate_token_score);
  EXPECT_EQ(4.0 / 9, pattern.first_token_mass);
  EXPECT_EQ((1.0 + 2 + 3 + 4 + 5 * 4) / 9, pattern.mean_distance);
}

TEST(AttentionPatterns, brought_from_a_device_are_of_a_head_a_thread_at_least) {
  const std::int64_t n = 4096, head = n * n * 8;
  for (const int threads : {1, 3, 16}) {
    set_compute_threads(threads);
    EXPECT_EQ(attention_patterns_bytes(8, n), std::min(threads, 8) * head);
    EXPECT_EQ(attention_patterns_bytes(2, 10), 2 * 10 * 10 * 8) << "all that there are";
  }
  set_compute_threads(1);
}

TEST(EarlierTokens, are_the_last_ones_before) {
  const EarlierTokens tokens(std::vector<std::int64_t>{4, 4, 7, 4, -1, 7});
  std::vector<std::int64_t> places;
  for (std::int64_t i = 0; i < tokens.num_tokens(); ++i) places.push_back(tokens.last_before(i));
  EXPECT_EQ((std::vector<std::int64_t>{-1, 0, -1, 1, -1, 2}), places);
}

TEST(ScoreSummaries, are_over_all_rows_of_each_head) {
  const Tensor row_max = at::tensor({1.0F, -3.0F, 2.0F, -5.0F, -4.0F, -6.0F}).reshape({2, 3});
  const Tensor logs = at::tensor({1.5, -2.5, 2.5, -4.0, -3.0, -5.0}, at::kDouble).reshape({2, 3});
  const auto summaries = score_summaries(row_max, logs);
  ASSERT_EQ(2u, summaries.size());
  EXPECT_EQ(2.0, summaries[0].max_logit);
  EXPECT_EQ(0.5, summaries[0].mean_log_sum_exp);
  EXPECT_EQ(-4.0, summaries[1].max_logit);
  EXPECT_EQ(-4.0, summaries[1].mean_log_sum_exp);
}

}  // namespace
}  // namespace spectrace
