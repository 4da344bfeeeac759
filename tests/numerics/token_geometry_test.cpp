#include "spectrace/numerics/token_geometry.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace spectrace {
namespace {

/// Numbers that no permutation leaves as they are.
Tensor vectors(std::int64_t n, std::int64_t width, at::ScalarType type = at::kDouble) {
  return (at::sin(at::arange(n * width, at::kDouble).square().mul_(0.37)).add_(0.3)).reshape({n, width}).to(type);
}

double entropy_of(const Tensor& p) { return -(p * p.clamp_min(1e-300).log()).sum().item<double>(); }

TokenGeometry by_definition(const Tensor& given) {
  const Tensor h = given.to(at::kDouble), sizes = std::get<0>(h.abs().flatten().sort());
  const std::int64_t n = h.size(0);
  const Tensor centred = h - h.mean(), unit = h / h.norm(2, 1, true), cosines = unit.mm(unit.t());
  const Tensor squares = at::linalg_svdvals(h).square();
  const std::int64_t place = h.abs().argmax().item<std::int64_t>();
  return {sizes[-1].item<double>(),
          place / h.size(1),
          place % h.size(1),
          (sizes[-1] / sizes[(h.numel() - 1) / 2]).item<double>(),
          (centred.pow(4).mean() / centred.square().mean().square()).item<double>() - 3,
          entropy_of(squares / squares.sum()),
          (cosines.sum() - cosines.trace()).item<double>() / static_cast<double>(n * (n - 1))};
}

void expect_near(const TokenGeometry& expected, const TokenGeometry& actual, double tolerance) {
  EXPECT_EQ(expected.max_abs_entry, actual.max_abs_entry);
  EXPECT_EQ(expected.max_abs_token, actual.max_abs_token);
  EXPECT_EQ(expected.max_abs_channel, actual.max_abs_channel);
  EXPECT_NEAR(expected.massive_ratio, actual.massive_ratio, tolerance * expected.massive_ratio);
  EXPECT_NEAR(expected.kurtosis, actual.kurtosis, tolerance * (3 + std::abs(expected.kurtosis)));
  EXPECT_NEAR(expected.matrix_entropy, actual.matrix_entropy, tolerance * std::max(1.0, expected.matrix_entropy));
  EXPECT_NEAR(expected.anisotropy, actual.anisotropy, tolerance);
}

TEST(TokenGeometry, is_what_its_definitions_say_for_few_and_many_tokens) {
  for (const auto& [n, width] : {std::pair{5, 48}, {48, 5}, {2, 3}, {70, 70}, {7, 1}})
    for (const auto type : {at::kFloat, at::kDouble}) {
      const Tensor h = vectors(n, width, type);
      expect_near(by_definition(h), token_geometry(h), 1e-12);
    }
}

TEST(TokenGeometry, takes_rows_of_a_larger_batch) {
  const Tensor all = vectors(20, 9);
  expect_near(by_definition(all.narrow(0, 6, 8).clone()), token_geometry(all.narrow(0, 6, 8)), 1e-12);
}

TEST(TokenGeometry, has_no_cosine_of_one_token_and_no_spectrum_of_zeros) {
  const TokenGeometry one = token_geometry(vectors(1, 6));
  EXPECT_TRUE(std::isnan(one.anisotropy));
  EXPECT_NEAR(one.matrix_entropy, 0, 1e-15);
  const TokenGeometry none = token_geometry(at::zeros({3, 4}, at::kDouble));
  EXPECT_EQ(none.max_abs_entry, 0);
  for (const double value : {none.massive_ratio, none.kurtosis, none.matrix_entropy, none.anisotropy})
    EXPECT_TRUE(std::isnan(value));
  EXPECT_TRUE(std::isnan(token_geometry(at::ones({2, 2}, at::kDouble)).kurtosis));
}

TEST(TokenGeometry, is_the_same_of_multiples_near_the_ends_of_the_range) {
  const Tensor h = vectors(6, 11);
  const TokenGeometry plain = token_geometry(h);
  for (const int exponent : {-1000, 1000}) {
    TokenGeometry scaled = token_geometry(h * std::ldexp(1.0, exponent));
    scaled.max_abs_entry = std::ldexp(scaled.max_abs_entry, -exponent);
    expect_near(plain, scaled, 1e-13);
  }
}

/// One vector that is a million times the others: p of the others are 1e-12.
TEST(TokenGeometry, keeps_the_digits_of_a_small_entropy) {
  Tensor h = at::zeros({3, 4}, at::kDouble);
  h[0][1] = 1e6;
  h[1][2] = 1;
  h[2][3] = 1;
  const double small = 1 / (1e12 + 2), large = 1e12 / (1e12 + 2);
  const double expected = -2 * small * std::log(small) - large * std::log1p(-2 * small);
  EXPECT_NEAR(token_geometry(h).matrix_entropy, expected, 1e-12 * expected);
}

TEST(TokenGeometry, names_the_first_of_equal_entries) {
  Tensor h = at::ones({3, 4}, at::kFloat);
  h[1][2] = -5;
  h[1][3] = 5;
  h[2][0] = 5;
  const TokenGeometry found = token_geometry(h);
  EXPECT_EQ(found.max_abs_token, 1);
  EXPECT_EQ(found.max_abs_channel, 2);
}

TEST(SquaredDistances, are_those_of_all_pairs) {
  const Tensor h = vectors(9, 13, at::kFloat), wide = h.to(at::kDouble);
  const Tensor distances = squared_distances(h);
  for (std::int64_t i = 0; i < 9; ++i)
    for (std::int64_t j = 0; j < 9; ++j)
      EXPECT_NEAR(distances[i][j].item<double>(), (wide[i] - wide[j]).square().sum().item<double>(), 1e-13);
}

TEST(RowCosines, are_those_of_rows_whatever_their_length) {
  const Tensor a = vectors(6, 17), b = vectors(6, 17).flip(0);
  const std::vector<double> expected = row_cosines(a, b);
  for (std::int64_t i = 0; i < 6; ++i)
    EXPECT_NEAR(expected[static_cast<std::size_t>(i)], (a[i].dot(b[i]) / (a[i].norm() * b[i].norm())).item<double>(),
                1e-15);
  const std::vector<double> scaled = row_cosines(a * std::ldexp(1.0, 900), b * std::ldexp(1.0, -900));
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(expected[i], scaled[i], 1e-15);
  EXPECT_TRUE(std::isnan(row_cosines(at::zeros({1, 3}, at::kDouble), at::ones({1, 3}, at::kDouble)).front()));
}

}  // namespace
}  // namespace spectrace
