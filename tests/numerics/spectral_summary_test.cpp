#include "spectrace/numerics/spectral_summary.hpp"

#include <gtest/gtest.h>

#include "numerics/golden.hpp"
#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/tensor.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

void expect_close(double expected, double actual, double num_roundings) {
  if (!std::isfinite(expected))
    EXPECT_TRUE(std::isnan(expected) ? std::isnan(actual) : expected == actual) << actual;
  else
    EXPECT_NEAR(expected, actual, num_roundings * kUnitRoundoff * std::abs(expected));
}

TEST(SpectralSummary, agrees_with_numpy) {
  golden("summaries.json").for_each([](const JsonNode& node) {
    SCOPED_TRACE(node.at("name").as_string());
    const std::int64_t rows = node.at("rows").as_int(), columns = node.at("columns").as_int();
    const std::vector<double> sigma = golden_numbers(node.at("sigma"));
    const auto number = [&](const char* key) { return golden_number(node.at(key)); };
    const SpectralSummary summary = summarize_spectrum(sigma, number("frobenius_norm"), rows, columns);
    const auto roundings = static_cast<double>(8 * sigma.size());
    expect_close(number("spectral_norm"), summary.spectral_norm, 0);
    expect_close(number("frobenius_norm"), summary.frobenius_norm, 0);
    expect_close(number("effective_rank"), summary.effective_rank, roundings);
    expect_close(number("stable_rank"), summary.stable_rank, 8);
    expect_close(number("condition_number"), summary.condition_number, 1);
    expect_close(number("numerical_rank"), summary.numerical_rank, 0);
  });
}

TEST(EntryMoments, agree_with_rational_arithmetic) {
  golden("summaries.json").for_each([](const JsonNode& node) {
    SCOPED_TRACE(node.at("name").as_string());
    const std::int64_t rows = node.at("rows").as_int(), columns = node.at("columns").as_int();
    const Tensor a = at::tensor(golden_numbers(node.at("entries")), at::kDouble).reshape({rows, columns});
    const double norm = golden_number(node.at("frobenius_norm")), mean = golden_number(node.at("entry_mean"));
    const double std = golden_number(node.at("entry_std"));
    const std::vector<double> row_norm = golden_numbers(node.at("row_norms"));
    const double count = static_cast<double>(rows * columns);
    for (const Tensor& view : {a, a.t().contiguous().t()}) {
      const EntryMoments moments = entry_moments(view);
      expect_close(norm, moments.frobenius_norm, count);
      // A mean near zero is as good as the sum of magnitudes allows; the std does not suffer from a large mean.
      const double largest = a.abs().max().item<double>();
      EXPECT_NEAR(mean, moments.mean, count * kUnitRoundoff * largest);
      if (std::isnan(std))
        EXPECT_TRUE(std::isnan(moments.std));
      else
        EXPECT_NEAR(std, moments.std, count * kUnitRoundoff * std);
      const std::vector<double> norms = row_norms(view);
      ASSERT_EQ(row_norm.size(), norms.size());
      for (std::size_t i = 0; i < norms.size(); ++i) expect_close(row_norm[i], norms[i], static_cast<double>(columns));
    }
    // Of the transpose everything but the row norms is the same.
    const EntryMoments transposed = entry_moments(a.t());
    expect_close(norm, transposed.frobenius_norm, count);
  });
}

TEST(EntryMoments, of_numbers_at_the_ends_of_the_range) {
  for (const int exponent : {-1060, -600, 600, 1020}) {
    const double scale = std::ldexp(1.0, exponent);
    const Tensor a = at::tensor({3.0, 4.0, 5.0, 12.0}, at::kDouble).reshape({2, 2}) * scale;
    const EntryMoments moments = entry_moments(a);
    EXPECT_DOUBLE_EQ(6.0 * scale, moments.mean);
    EXPECT_DOUBLE_EQ(std::sqrt(194.0) * scale, moments.frobenius_norm);
    EXPECT_DOUBLE_EQ(std::sqrt(50.0 / 3.0) * scale, moments.std);
    EXPECT_EQ((std::vector<double>{5.0 * scale, 13.0 * scale}), row_norms(a));
  }
}

TEST(EntryMoments, norms_beyond_the_range_are_refused) {
  const Tensor a = at::full({2, 2}, 0x1p1022, at::kDouble);
  EXPECT_EQ(0x1p1023, entry_moments(a).frobenius_norm);
  try {
    entry_moments(a * 2.0);
    FAIL() << "nothing was thrown";
  } catch (const NumericalError& error) {
    EXPECT_STREQ(error.what(), "the Frobenius norm is beyond the range of float64, though every entry is in it");
  }
}

TEST(RowNorms, have_each_row_in_a_scale_of_its_own) {
  const Tensor a = at::tensor({3.0, 4.0, 5.0, 12.0, 0.0, 0.0, 8.0, -6.0, 1.5, 1.5}, at::kDouble).reshape({5, 2});
  const double scales[] = {0x1p1020, 0x1p-1060, 0x1p1000, 1.0, 0x1p1023};
  for (int row = 0; row < 5; ++row) a[row] *= scales[row];
  EXPECT_EQ((std::vector<double>{5.0 * 0x1p1020, 13.0 * 0x1p-1060, 0.0, 10.0, HUGE_VAL}), row_norms(a));
}

TEST(EntryMoments, of_more_rows_than_a_block) {
  // Entries i mod 7 - 3 of 7 k numbers: mean 0, variance 4 n / (n - 1), whatever the order.
  const std::int64_t rows = 7 * 1000, columns = 70;
  const Tensor a = at::arange(rows * columns, at::kLong).remainder(7).sub(3).reshape({rows, columns}).to(at::kBFloat16);
  const auto count = static_cast<double>(rows * columns);
  const EntryMoments moments = entry_moments(a);
  EXPECT_EQ(0.0, moments.mean);
  EXPECT_DOUBLE_EQ(std::sqrt(4.0 * count), moments.frobenius_norm);
  EXPECT_DOUBLE_EQ(std::sqrt(4.0 * count / (count - 1)), moments.std);
  const std::vector<double> norms = row_norms(a);
  EXPECT_EQ(std::vector<double>(7000, std::sqrt(4.0 * 70)), norms);
}

TEST(EntryMoments, of_constants_have_no_deviation) {
  const EntryMoments moments = entry_moments(at::full({300, 1000}, 0.375, at::kFloat));
  EXPECT_EQ(0.375, moments.mean);
  EXPECT_EQ(0.0, moments.std);
}

TEST(EntryMoments, of_what_is_not_finite_are_nan) {
  Tensor a = at::ones({4, 3}, at::kFloat);
  a[2][1] = std::numeric_limits<float>::quiet_NaN();
  const EntryMoments moments = entry_moments(a);
  EXPECT_TRUE(std::isnan(moments.mean) && std::isnan(moments.std) && std::isnan(moments.frobenius_norm));
  const std::vector<double> norms = row_norms(a);
  EXPECT_TRUE(std::isnan(norms[2]));
  EXPECT_DOUBLE_EQ(std::sqrt(3.0), norms[3]);
}

TEST(SpectralSummary, of_empty_and_zero_matrices) {
  const EntryMoments none = entry_moments(at::empty({0, 8}, at::kFloat));
  EXPECT_EQ(0.0, none.frobenius_norm);
  EXPECT_TRUE(std::isnan(none.mean) && std::isnan(none.std));
  EXPECT_TRUE(row_norms(at::empty({0, 8}, at::kFloat)).empty());
  EXPECT_EQ(std::vector<double>(3, 0.0), row_norms(at::empty({3, 0}, at::kFloat)));

  const SpectralSummary empty = summarize_spectrum({}, 0.0, 0, 8);
  EXPECT_EQ(0.0, empty.spectral_norm);
  EXPECT_EQ(0.0, empty.frobenius_norm);
  for (const double x : {empty.effective_rank, empty.stable_rank, empty.condition_number, empty.numerical_rank})
    EXPECT_TRUE(std::isnan(x));

  const std::vector<double> zeros(3, 0.0);
  const SpectralSummary zero = summarize_spectrum(zeros, 0.0, 3, 8);
  EXPECT_TRUE(std::isnan(zero.effective_rank) && std::isnan(zero.stable_rank));
  EXPECT_EQ(HUGE_VAL, zero.condition_number);
  EXPECT_EQ(0.0, zero.numerical_rank);

  const std::vector<double> nan(2, std::numeric_limits<double>::quiet_NaN());
  const SpectralSummary bad = summarize_spectrum(nan, 1.0, 2, 2);
  for (const double x : {bad.spectral_norm, bad.effective_rank, bad.condition_number, bad.numerical_rank})
    EXPECT_TRUE(std::isnan(x));
}

TEST(SpectralSummary, rank_threshold_is_that_of_float32) {
  const double threshold = 2.0 * 1000 * 0x1p-23;
  const std::vector<double> sigma{2.0, 1.0, threshold * (1 + 0x1p-50), threshold, 0.0};
  EXPECT_EQ(3.0, summarize_spectrum(sigma, 3.0, 5, 1000).numerical_rank);
  EXPECT_EQ(3.0, summarize_spectrum(sigma, 3.0, 1000, 5).numerical_rank);
}

}  // namespace
}  // namespace spectrace
