#include "spectrace/numerics/next_token.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace spectrace {
namespace {

Tensor scores(std::int64_t rows, std::int64_t tokens) {
  return at::sin(at::arange(rows * tokens, at::kDouble).square().mul_(0.11)).mul_(9).reshape({rows, tokens});
}

TEST(ScoreSums, come_to_the_softmax_however_the_vocabulary_is_cut) {
  const Tensor z = scores(5, 101);
  const Tensor log_p = at::log_softmax(z, 1), entropy = -(log_p.exp() * log_p).sum(1);
  for (const std::int64_t part : {1, 7, 50, 101}) {
    std::vector<ScoreSums> sums(5);
    for (std::int64_t first = 0; first < 101; first += part) {
      const auto of_part = score_sums(z.narrow(1, first, std::min<std::int64_t>(part, 101 - first)), first);
      for (std::size_t row = 0; row < sums.size(); ++row) sums[row].add(of_part[row]);
    }
    for (std::int64_t row = 0; row < 5; ++row) {
      const ScoreSums& found = sums[static_cast<std::size_t>(row)];
      EXPECT_NEAR(found.log_sum_exp(), z[row].logsumexp(0).item<double>(), 1e-14);
      EXPECT_NEAR(found.entropy(), entropy[row].item<double>(), 1e-14);
      EXPECT_EQ(found.most_probable, z[row].argmax().item<std::int64_t>());
    }
  }
}

TEST(ScoreSums, take_the_first_of_equal_tokens_and_hold_numbers_far_apart) {
  ScoreSums sums;
  sums.add(score_sums(at::tensor(std::vector<double>{1e4, -1e4, 1e4}).reshape({1, 3}), 0).front());
  sums.add(score_sums(at::tensor(std::vector<double>{1e4, 3.0}).reshape({1, 2}), 3).front());
  EXPECT_EQ(sums.most_probable, 0);
  EXPECT_NEAR(sums.log_sum_exp(), 1e4 + std::log(3.0), 1e-11);
  EXPECT_NEAR(sums.entropy(), std::log(3.0), 1e-14);
}

TEST(ScoreSums, say_that_a_score_was_no_number) {
  for (const double bad : {std::nan(""), HUGE_VAL})
    for (const bool is_first : {true, false}) {
      Tensor z = scores(1, 8);
      z[0][is_first ? 1 : 6] = bad;
      ScoreSums sums;
      for (const std::int64_t first : {0, 4}) sums.add(score_sums(z.narrow(1, first, 4), first).front());
      EXPECT_FALSE(std::isfinite(sums.log_sum_exp()) && std::isfinite(sums.entropy()));
    }
}

TEST(LensSums, are_divergence_and_rank_beside_the_last_boundary) {
  const Tensor z = scores(4, 60), log_p = at::log_softmax(z, 1);
  const std::int64_t best = z[3].argmax().item<std::int64_t>();
  for (const std::int64_t part : {1, 13, 60}) {
    LensSums sums;
    for (std::int64_t first = 0; first < 60; first += part)
      sums.add(lens_sums(z.narrow(1, first, std::min<std::int64_t>(part, 60 - first)), first, best, z.select(1, best)));
    for (std::int64_t b = 0; b < 4; ++b) {
      const Tensor divergence = (log_p[3].exp() * (log_p[3] - log_p[b])).sum();
      EXPECT_NEAR(sums.divergence(static_cast<std::size_t>(b)), divergence.item<double>(), 1e-13);
      EXPECT_EQ(sums.num_more_likely[static_cast<std::size_t>(b)], (z[b] > z[b][best]).sum().item<double>());
    }
  }
}

TEST(LensSums, never_count_the_token_itself) {
  const Tensor z = scores(2, 10);
  const LensSums sums = lens_sums(z, 0, 4, z.select(1, 4) - 1e-9);  // as another product might have rounded it
  for (std::int64_t b = 0; b < 2; ++b)
    EXPECT_EQ(sums.num_more_likely[static_cast<std::size_t>(b)], (z[b] > z[b][4]).sum().item<double>());
}

}  // namespace
}  // namespace spectrace
