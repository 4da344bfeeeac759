#include "spectrace/numerics/low_rank_product.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "numerics/gaussian.hpp"
#include "spectrace/core/parallel.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

/// Sylvester's Hadamard matrix over sqrt(n): orthogonal, and exact where n is a power of 4.
Tensor orthogonal(std::int64_t n) {
  Tensor h = at::ones({1, 1}, at::kDouble);
  while (h.size(0) < n) h = at::cat({at::cat({h, h}, 1), at::cat({h, -h}, 1)}, 0);
  return h / std::sqrt(static_cast<double>(n));
}

Tensor powers_of_two(std::int64_t count, double step) {
  return at::exp2(at::arange(count, at::kDouble) * -std::floor(step));
}

/// Factors U diag(a) W^T and V diag(b) W^T of orthogonal matrices: the product has the singular values a b.
struct KnownProduct {
  Tensor left, right;  // [m, d]
  std::vector<double> sigma;
  double norms = 0;  ///< of the factors, Frobenius, multiplied
};

KnownProduct known_product(std::int64_t m, std::int64_t d, double left_step, double right_step) {
  const Tensor basis = orthogonal(m), mixing = orthogonal(d), a = powers_of_two(d, left_step),
               b = powers_of_two(d, right_step);
  KnownProduct known{(basis.narrow(1, 0, d) * a).mm(mixing), (basis.narrow(1, m - d, d) * b).mm(mixing), {}, 0};
  for (std::int64_t i = 0; i < d; ++i) known.sigma.push_back((a[i] * b[i]).item<double>());
  known.norms = (a.norm() * b.norm()).item<double>();
  return known;
}

TEST(ProductSpectrum, of_known_products_is_within_its_bound) {
  for (const auto& [m, d] : std::vector<std::array<std::int64_t, 2>>{{16, 4}, {64, 16}, {256, 64}, {1024, 64}})
    for (const double step : {0.0, 1.0, 2.0}) {
      SCOPED_TRACE(testing::Message() << m << " x " << d << ", steps of 2^-" << step);
      const KnownProduct known = known_product(m, d, step, 1.0);
      const ProductSpectrum product = product_spectrum(factorize(known.left), factorize(known.right));
      ASSERT_EQ(known.sigma.size(), product.singular.values.size());
      const double bound = product.singular.error_bound;
      for (std::size_t i = 0; i < known.sigma.size(); ++i)
        EXPECT_LE(std::abs(known.sigma[i] - product.singular.values[i]), bound) << i;
      // Beyond the worst case over all roundings, m d u a factor, it would say nothing.
      EXPECT_LE(bound, static_cast<double>(2 * m * d) * kUnitRoundoff * known.norms);
      double squares = 0;
      for (const double sigma : known.sigma) squares += sigma * sigma;
      EXPECT_NEAR(std::sqrt(squares), product.summary.frobenius_norm, std::sqrt(static_cast<double>(d)) * bound);
    }
}

TEST(ProductSpectrum, of_random_factors_is_that_of_the_whole_product) {
  // d > m, too: the rank is m then.
  for (const auto& [m, n, d] :
       std::vector<std::array<std::int64_t, 3>>{{40, 40, 8}, {40, 23, 8}, {9, 9, 12}, {5, 7, 1}}) {
    SCOPED_TRACE(testing::Message() << m << ", " << n << ", " << d);
    const Tensor left = gaussian(m, d, 1), right = gaussian(n, d, 2);
    const ProductSpectrum product = product_spectrum(factorize(left), factorize(right));
    const SingularValues whole = singular_values(left.mm(right.t()));
    const auto rank = static_cast<std::size_t>(std::min({m, n, d}));
    ASSERT_EQ(rank, product.singular.values.size());
    const double allowed = whole.error_bound + product.singular.error_bound +
                           static_cast<double>(d) * kUnitRoundoff * (left.norm() * right.norm()).item<double>();
    for (std::size_t i = 0; i < rank; ++i) EXPECT_NEAR(whole.values[i], product.singular.values[i], allowed);
  }
}

TEST(ProductSpectrum, of_factors_that_cancel_has_a_bound_of_their_size) {
  // The columns of one are orthogonal to what the other has of them: the product is 0, the factors are not.
  const Tensor left = orthogonal(64).narrow(1, 0, 16), mixing = orthogonal(16);
  const Tensor first = left.narrow(1, 0, 8).mm(mixing.narrow(0, 0, 8)),
               second = left.narrow(1, 8, 8).mm(mixing.narrow(0, 8, 8));
  const ProductSpectrum product = product_spectrum(factorize(first), factorize(second));
  EXPECT_LE(product.singular.values.front(), product.singular.error_bound);
  EXPECT_GT(product.singular.error_bound, kUnitRoundoff);
}

TEST(ProductSpectrum, of_zero_is_zero_without_error) {
  const ProductSpectrum product =
      product_spectrum(factorize(at::zeros({12, 4}, at::kFloat)), factorize(gaussian(12, 4, 3)));
  EXPECT_EQ(std::vector<double>(4, 0.0), product.singular.values);
  EXPECT_EQ(0.0, product.singular.error_bound);
  EXPECT_EQ(0.0, product.summary.frobenius_norm);
  EXPECT_TRUE(std::isnan(product.summary.effective_rank) && std::isnan(product.summary.stable_rank));
}

TEST(ProductSpectrum, does_not_depend_on_the_scale_of_its_factors) {
  const Tensor left = gaussian(30, 6, 4), right = gaussian(30, 6, 5);
  const ProductSpectrum plain = product_spectrum(factorize(left), factorize(right));
  const ProductEigenvalues eigenvalues = product_eigenvalues(factorize(left), factorize(right));
  // Squares of such entries are no float64 numbers.
  for (const int exponent : {900, 1015, -900, -1015}) {
    SCOPED_TRACE(exponent);
    const ThinFactor large = factorize(left * std::ldexp(1.0, exponent)),
                     small = factorize(right * std::ldexp(1.0, -exponent));
    const ProductSpectrum scaled = product_spectrum(large, small);
    EXPECT_EQ(plain.singular.values, scaled.singular.values);
    EXPECT_EQ(plain.summary.stable_rank, scaled.summary.stable_rank);
    EXPECT_EQ(eigenvalues.spectral_radius, product_eigenvalues(large, small).spectral_radius);
    EXPECT_EQ(eigenvalues.positivity, product_eigenvalues(large, small).positivity);
  }
}

TEST(ProductSpectrum, beyond_the_range_is_refused) {
  const Tensor left = gaussian(30, 6, 6), right = gaussian(30, 6, 7);
  const auto scaled = [&](int exponent) {
    return product_spectrum(factorize(left * std::ldexp(1.0, exponent)), factorize(right * std::ldexp(1.0, exponent)));
  };
  EXPECT_NO_THROW(scaled(500));
  EXPECT_THROW(scaled(600), NumericalError);
  EXPECT_NO_THROW(scaled(-500));
  EXPECT_THROW(scaled(-600), NumericalError);
  Tensor bad = left.clone();
  bad[29][5] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(factorize(bad), NumericalError);
  bad[29][5] = -HUGE_VAL;
  EXPECT_THROW(factorize(bad.to(at::kFloat)), NumericalError);
}

TEST(ProductEigenvalues, of_a_copying_and_an_inverting_map) {
  const Tensor a = gaussian(40, 8, 8);
  const double largest = std::pow(singular_values(a).values.front(), 2);
  for (const double sign : {1.0, -1.0}) {
    const ProductEigenvalues eigenvalues = product_eigenvalues(factorize(sign * a), factorize(a));
    // Symmetric: an eigenvalue moves by no more than the backward error.
    EXPECT_NEAR(sign, eigenvalues.positivity, 8 * 2 * eigenvalues.backward_error / (a * a).sum().item<double>());
    EXPECT_NEAR(largest, eigenvalues.spectral_radius, eigenvalues.backward_error + 100 * kUnitRoundoff * largest);
    EXPECT_LE(std::abs(eigenvalues.positivity), 1.0);
  }
}

TEST(ProductEigenvalues, of_a_turn_have_no_sign) {
  const Tensor basis = orthogonal(16).narrow(1, 0, 2);
  const Tensor turn = at::tensor({0.0, -1.0, 1.0, 0.0}, at::kDouble).reshape({2, 2});
  const ProductEigenvalues eigenvalues = product_eigenvalues(factorize(basis.mm(turn)), factorize(basis));
  EXPECT_NEAR(0.0, eigenvalues.positivity, 2 * eigenvalues.backward_error);
  EXPECT_NEAR(1.0, eigenvalues.spectral_radius, 2 * eigenvalues.backward_error);
}

TEST(ProductEigenvalues, of_a_defective_map_are_as_far_off_as_their_backward_error_lets_them) {
  // A Jordan block of 8: eigenvalues of J + E with ||E|| = e lie within about e^(1/8) of 1, and no nearer.
  const std::int64_t d = 8;
  const Tensor basis = orthogonal(16).narrow(1, 0, d), mixing = gaussian(d, d, 9);
  const Tensor block = at::eye(d, at::kDouble) + at::diag_embed(at::ones({d - 1}, at::kDouble), 1);
  const Tensor jordan = at::linalg_solve(mixing, block).mm(mixing);
  const ProductEigenvalues eigenvalues = product_eigenvalues(factorize(basis.mm(jordan)), factorize(basis));
  const double condition = (mixing.norm() * at::linalg_inv(mixing).norm()).item<double>();
  EXPECT_LE(eigenvalues.spectral_radius - 1, 2 * std::pow(condition * condition * eigenvalues.backward_error, 1.0 / 8));
  EXPECT_LE(eigenvalues.backward_error, 1e3 * kUnitRoundoff * (jordan.norm() * basis.norm()).item<double>());
}

TEST(ProductEigenvalues, of_a_map_that_balancing_changes_have_a_backward_error_of_its_size) {
  // Rows of one factor are large where columns of the other are small.
  const Tensor scale = at::exp2(at::arange(8, at::kDouble) * 12);
  const Tensor left = gaussian(40, 8, 10) * scale, right = gaussian(40, 8, 11) / scale;
  const ProductEigenvalues eigenvalues = product_eigenvalues(factorize(left), factorize(right));
  EXPECT_LE(eigenvalues.backward_error,
            static_cast<double>(2 * 40 * 8) * kUnitRoundoff * (left.norm() * right.norm()).item<double>());
  EXPECT_GT(eigenvalues.backward_error, 0);
}

TEST(ProductEigenvalues, of_zero_have_no_sign) {
  const ProductEigenvalues eigenvalues =
      product_eigenvalues(factorize(at::zeros({12, 4}, at::kDouble)), factorize(gaussian(12, 4, 3)));
  EXPECT_EQ(0.0, eigenvalues.spectral_radius);
  EXPECT_EQ(0.0, eigenvalues.backward_error);
  EXPECT_TRUE(std::isnan(eigenvalues.positivity));
}

TEST(LowRankProduct, spectrum_needs_no_entries) {
  const Tensor left = gaussian(64, 8, 14), right = gaussian(48, 8, 15);
  const ThinFactor a = factorize(left, FactorParts::triangle), b = factorize(right, FactorParts::triangle);
  EXPECT_FALSE(a.entries.defined() || b.entries.defined());
  const ProductSpectrum product = product_spectrum(a, b),
                        expected = product_spectrum(factorize(left), factorize(right));
  EXPECT_EQ(expected.singular.values, product.singular.values);
  EXPECT_EQ(expected.singular.error_bound, product.singular.error_bound);
  EXPECT_EQ(expected.summary.stable_rank, product.summary.stable_rank);
  const std::int64_t of_triangle = 8 * 8 * 8;
  EXPECT_EQ(of_triangle, static_cast<std::int64_t>(a.triangle.nbytes()));
  EXPECT_EQ(of_triangle, thin_factor_bytes(64, 8, FactorParts::triangle));
  EXPECT_EQ(of_triangle + 64 * 8 * 8, thin_factor_bytes(64, 8, FactorParts::entries_too));
}

TEST(LowRankProduct, same_bits_for_any_number_of_threads_and_any_strides) {
  const Tensor left = gaussian(300, 32, 12), right = gaussian(300, 32, 13);
  const auto all = [&] {
    std::vector<std::vector<double>> values(6);
    parallel_for(6, [&](std::int64_t i) {
      const ThinFactor a = factorize(i % 2 == 0 ? left : left.t().contiguous().t()), b = factorize(right);
      const ProductEigenvalues eigenvalues = product_eigenvalues(a, b);
      auto& slot = values[static_cast<std::size_t>(i)];
      slot = product_spectrum(a, b).singular.values;
      slot.insert(slot.end(), {eigenvalues.positivity, eigenvalues.spectral_radius, eigenvalues.backward_error});
    });
    return values;
  };
  set_compute_threads(1);
  const auto of_one = all();
  set_compute_threads(3);
  const auto of_three = all();
  set_compute_threads(1);
  EXPECT_EQ(of_one, of_three);
  for (const auto& values : of_one) EXPECT_EQ(of_one.front(), values);
}

}  // namespace
}  // namespace spectrace
