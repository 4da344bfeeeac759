#include "../../src/numerics/bidiagonal_svd.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

/// How many singular values are below x, by the signs of L D L^T = B^T B - x^2 I: Fernando's stationary form, another
/// algorithm than the one under test, in extended precision.
std::int64_t count_below(const Bidiagonal& b, long double x) {
  const long double shift = x * x;
  long double s = -shift;
  std::int64_t count = 0;
  for (std::size_t i = 0; i < b.diagonal.size(); ++i) {
    const long double q = static_cast<long double>(b.diagonal[i]) * b.diagonal[i];
    long double pivot = q + s;
    if (pivot == 0) pivot = -1e-4900L;
    if (pivot < 0) ++count;
    if (i + 1 < b.diagonal.size()) {
      const long double e = static_cast<long double>(b.superdiagonal[i]) * b.superdiagonal[i];
      s = e * (s / pivot) - shift;
    }
  }
  return count;
}

/// All singular values by bisection, descending, to about 1e-18 of each.
std::vector<double> by_bisection(const Bidiagonal& b) {
  long double norm = 0;
  for (const double x : b.diagonal) norm += std::abs(x);
  for (const double x : b.superdiagonal) norm += std::abs(x);
  const auto n = static_cast<std::int64_t>(b.diagonal.size());
  std::vector<double> values;
  for (std::int64_t index = n - 1; index >= 0; --index) {
    long double low = 0, high = 2 * norm;
    for (int i = 0; i < 1200 && (high - low) > 1e-18L * high; ++i) {
      // Geometric where the two are far apart, so that small values cost no more than large ones.
      const long double middle = low > 0 && high > 4 * low ? std::sqrt(low * high)
                                 : low == 0                ? high / 4
                                                           : low + (high - low) / 2;
      (count_below(b, middle) > index ? high : low) = middle;
    }
    values.push_back(static_cast<double>(high));
  }
  return values;
}

/// Each value to `factor` n u of itself, or of the least that float64 squares can tell apart.
void expect_relatively_equal(const std::vector<double>& expected, const std::vector<double>& actual,
                             double factor = 10) {
  ASSERT_EQ(expected.size(), actual.size());
  EXPECT_TRUE(std::is_sorted(actual.rbegin(), actual.rend()));
  const double n = static_cast<double>(expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(expected[i], actual[i], factor * n * kUnitRoundoff * expected[i] + 1e-290 * expected.front())
        << "value " << i;
}

Bidiagonal constant(std::size_t n, double diagonal, double superdiagonal) {
  return {std::vector<double>(n, diagonal), std::vector<double>(n > 0 ? n - 1 : 0, superdiagonal)};
}

TEST(BidiagonalSvd, of_ones_are_cosines) {
  // B^T B is the second difference matrix with one corner changed: sigma_k = 2 cos(k pi / (2 n + 1)).
  for (const std::size_t n : {1u, 2u, 3u, 4u, 5u, 17u, 100u, 1001u}) {
    SCOPED_TRACE(n);
    std::vector<double> expected;
    for (std::size_t k = 1; k <= n; ++k)
      expected.push_back(
          static_cast<double>(2 * std::cos(static_cast<long double>(k) * std::numbers::pi_v<long double> /
                                           (2.0L * static_cast<long double>(n) + 1))));
    expect_relatively_equal(expected, bidiagonal_singular_values(constant(n, 1, 1)));
  }
}

TEST(BidiagonalSvd, of_kahans_matrix) {
  // Condition 10^60 and more: the smallest value is far below u of the largest, and still has its digits.
  for (const double ratio : {2.0, 4.0, 16.0}) {
    const Bidiagonal kahan = constant(60, 1, ratio);
    expect_relatively_equal(by_bisection(kahan), bidiagonal_singular_values(kahan));
  }
}

TEST(BidiagonalSvd, of_graded_matrices) {
  for (const double ratio : {0.7, 0.1, 1e-3, 1.4, 10.0, 1e3}) {
    SCOPED_TRACE(ratio);
    Bidiagonal graded = constant(60, 1, 1);
    for (std::size_t i = 0; i < 60; ++i) {
      graded.diagonal[i] = std::pow(ratio, static_cast<double>(i));
      if (i + 1 < 60) graded.superdiagonal[i] = graded.diagonal[i] * 0.9;
    }
    expect_relatively_equal(by_bisection(graded), bidiagonal_singular_values(graded));
  }
}

TEST(BidiagonalSvd, of_random_matrices) {
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> exponent(-40, 40);
  for (int draw = 0; draw < 60; ++draw) {
    SCOPED_TRACE(draw);
    const auto n = std::uniform_int_distribution<std::size_t>(1, 120)(random);
    Bidiagonal b = constant(n, 0, 0);
    for (double& x : b.diagonal) x = draw % 2 == 0 ? normal(random) : std::exp2(exponent(random));
    for (double& x : b.superdiagonal) x = draw % 3 == 0 ? normal(random) : std::exp2(exponent(random));
    expect_relatively_equal(by_bisection(b), bidiagonal_singular_values(b));
  }
}

TEST(BidiagonalSvd, of_clusters) {
  for (const double coupling : {1e-3, 1e-8, 1e-12, 1e-20}) {
    SCOPED_TRACE(coupling);
    const Bidiagonal clustered = constant(200, 1, coupling);
    expect_relatively_equal(by_bisection(clustered), bidiagonal_singular_values(clustered));
  }
  // Two glued copies: every value twice.
  Bidiagonal glued = constant(100, 1, 1);
  glued.superdiagonal[49] = 1e-9;
  expect_relatively_equal(by_bisection(glued), bidiagonal_singular_values(glued));
}

TEST(BidiagonalSvd, with_zeros) {
  EXPECT_EQ(std::vector<double>(), bidiagonal_singular_values({}));
  EXPECT_EQ(std::vector<double>(5, 0.0), bidiagonal_singular_values(constant(5, 0, 0)));
  EXPECT_EQ((std::vector<double>{7, 7, 7}), bidiagonal_singular_values(constant(3, -7, 0)));
  // A zero on the diagonal anywhere: one value is zero, exactly or to roundings.
  for (const std::size_t zero : {0u, 1u, 10u, 28u, 29u}) {
    SCOPED_TRACE(zero);
    Bidiagonal b = constant(30, 1, 0.5);
    b.diagonal[zero] = 0;
    const std::vector<double> actual = bidiagonal_singular_values(b);
    ASSERT_EQ(30u, actual.size());
    EXPECT_LE(actual.back(), 30 * kUnitRoundoff);
    std::vector<double> expected = by_bisection(b);
    expected.back() = actual.back();
    expect_relatively_equal(expected, actual);
  }
  // Nothing on the diagonal: the superdiagonal's entries and a zero.
  Bidiagonal b = constant(4, 0, 0);
  b.superdiagonal = {3, -1, 2};
  const std::vector<double> actual = bidiagonal_singular_values(b);
  ASSERT_EQ(4u, actual.size());
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_NEAR((std::vector<double>{3, 2, 1, 0})[i], actual[i], 8 * kUnitRoundoff * 3);
}

TEST(BidiagonalSvd, at_both_ends_of_the_range) {
  const std::vector<double> reference = bidiagonal_singular_values(constant(40, 1, 0.75));
  for (const int exponent : {-1000, -500, 500, 1000}) {
    const std::vector<double> scaled =
        bidiagonal_singular_values(constant(40, std::ldexp(1.0, exponent), std::ldexp(0.75, exponent)));
    ASSERT_EQ(reference.size(), scaled.size());
    for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(std::ldexp(reference[i], exponent), scaled[i]) << exponent;
  }
  const double least = std::numeric_limits<double>::denorm_min();
  const std::vector<double> denormal = bidiagonal_singular_values(constant(3, 4 * least, 0));
  EXPECT_EQ(std::vector<double>(3, 4 * least), denormal);
}

}  // namespace
}  // namespace spectrace
