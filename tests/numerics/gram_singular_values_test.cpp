#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "../../src/numerics/double_double_cholesky.hpp"
#include "numerics/gaussian.hpp"
#include "numerics/peak_memory.hpp"
#include "spectrace/numerics/exact_gram.hpp"
#include "spectrace/numerics/exact_sum.hpp"
#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

constexpr double kLargestBound = 1e-11;  // of the largest singular value, for every matrix of 16 bits

GramOfRows gram_matrix(const Tensor& w) {
  ExactGram gram(w.size(1));
  gram.add_rows(w);
  return gram.take();
}

SingularValues by_gram(const Tensor& w) { return singular_values_of_gram(gram_matrix(w), w.size(1)); }

SingularValues by_chain(const Tensor& w) {
  TallSingularValues solver(w.size(1));
  solver.add_rows(w);
  return solver.finish();
}

void expect_close(const std::vector<double>& expected, double expected_error, const SingularValues& found) {
  ASSERT_EQ(expected.size(), found.values.size());
  EXPECT_TRUE(std::is_sorted(found.values.rbegin(), found.values.rend()));
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(expected[i] - found.values[i]));
  EXPECT_LE(worst, expected_error + found.error_bound);
  EXPECT_LE(found.error_bound, kLargestBound * found.values.front());
}

void expect_as_by_chain(const Tensor& w) {
  const SingularValues chain = by_chain(w);
  expect_close(chain.values, chain.error_bound, by_gram(w));
}

/// A matrix of 16 bits with orthogonal pairs of columns [d h, e g] and [d h, -e g], h and g columns of Hadamard's
/// matrix: it has the singular values d sqrt(2 m) and e sqrt(2 m), and columns that are as close to each other as e is
/// to zero.
struct PairedMatrix {
  Tensor entries;  // [2 m, 2 pairs]
  std::vector<double> sigma;
};

PairedMatrix paired_matrix(std::int64_t m, const std::vector<double>& d, const std::vector<double>& e) {
  Tensor h = at::ones({1, 1}, at::kDouble);
  while (h.size(0) < m) h = at::cat({at::cat({h, h}, 1), at::cat({h, -h}, 1)}, 0);
  const auto pairs = static_cast<std::int64_t>(d.size());
  const Tensor large = h.narrow(1, 0, pairs) * at::tensor(d, at::kDouble);
  const Tensor small = h.narrow(1, m - pairs, pairs) * at::tensor(e, at::kDouble);
  const Tensor all = at::cat({at::cat({large, small}), at::cat({large, -small})}, 1);
  std::mt19937 random(31);
  const auto shuffled = [&](std::int64_t size) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(size));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    return at::tensor(order, at::kLong);
  };
  PairedMatrix result;
  result.entries = all.index_select(0, shuffled(2 * m)).index_select(1, shuffled(2 * pairs));
  for (const auto& factors : {d, e})
    for (const double x : factors) result.sigma.push_back(x * std::sqrt(2 * static_cast<double>(m)));
  std::sort(result.sigma.rbegin(), result.sigma.rend());
  return result;
}

/// d between 1 and 2, e as many steps of 2^-7 and smaller by the factor.
PairedMatrix conditioned_matrix(std::int64_t m, std::int64_t pairs, double smallest) {
  std::vector<double> d, e;
  for (std::int64_t k = 0; k < pairs; ++k) {
    d.push_back(1 + static_cast<double>(k * 37 % 128) / 128);
    e.push_back(smallest * (1 + static_cast<double>(k * 53 % 128) / 128));
  }
  return paired_matrix(m, d, e);
}

TEST(GramSingularValues, of_matrices_known_exactly) {
  for (const double exponent : {0, -7, -10, -13, -17, -20, -24, -27, -30, -34, -40}) {
    SCOPED_TRACE(testing::Message() << "condition number 2^" << 1 - exponent);
    const PairedMatrix known = conditioned_matrix(256, 43, std::exp2(exponent));
    const SingularValues found = by_gram(known.entries.to(at::kBFloat16));
    expect_close(known.sigma, 0, found);
    // What the worst case allows is far from what happens.
    for (std::size_t i = 0; i < known.sigma.size(); ++i)
      EXPECT_NEAR(known.sigma[i], found.values[i], 64 * kUnitRoundoff * known.sigma.front()) << i;
  }
  for (const double exponent : {-3, -10, -13}) {
    const PairedMatrix known = conditioned_matrix(128, 20, std::exp2(exponent));
    expect_close(known.sigma, 0, by_gram(known.entries.to(at::kHalf)));
  }
}

TEST(GramSingularValues, of_equal_columns_end_in_zeros) {
  const PairedMatrix known = conditioned_matrix(128, 30, 0);
  const SingularValues found = by_gram(known.entries.to(at::kBFloat16));
  expect_close(known.sigma, 0, found);
  EXPECT_GT(found.values[29], found.error_bound);
  EXPECT_LE(found.values[30], found.error_bound);
  // The root of what the triangle's square is off by counts here, and nowhere else.
  const SingularValues regular = by_gram(conditioned_matrix(128, 30, 1).entries.to(at::kBFloat16));
  EXPECT_GT(found.error_bound / found.values.front(), regular.error_bound / regular.values.front() + 1e-14);
}

TEST(GramSingularValues, over_several_tiles_are_those_known) {
  // 540 columns: three tiles, and nine panels of 64 for the factorization in double-double.
  for (const double exponent : {-7, -18, -40}) {
    const PairedMatrix known = conditioned_matrix(1024, 270, std::exp2(exponent));
    expect_close(known.sigma, 0, by_gram(known.entries.to(at::kBFloat16)));
  }
}

TEST(GramSingularValues, agree_with_the_chain) {
  for (const auto& [rows, columns] : std::vector<std::array<std::int64_t, 2>>{
           {1, 1}, {3, 1}, {6, 2}, {9, 3}, {100, 31}, {195, 65}, {1000, 300}, {4097, 40}, {9000, 129}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns);
    const Tensor w = gaussian(rows, columns, 20);
    expect_as_by_chain(w.to(at::kBFloat16));
    expect_as_by_chain(w.to(at::kHalf));
  }
}

TEST(GramSingularValues, of_difficult_matrices_agree_with_the_chain) {
  const std::int64_t rows = 5000, columns = 90;
  const Tensor noise = gaussian(rows, columns, 21);
  const Tensor direction = noise.narrow(1, 0, 1).mm(noise.narrow(0, 0, 1));
  const std::vector<Tensor> matrices{noise * at::logspace(0, -20, columns, 10, at::kDouble),  // graded columns
                                     noise.mul(at::logspace(-9, 3, rows, 10, at::kDouble).unsqueeze(1)),  // graded rows
                                     noise + 1e3 * direction,  // one large value
                                     direction,                // one value, and roundings to 16 bits
                                     gaussian(rows, 20, 22).mm(gaussian(20, columns, 23)),
                                     noise * 0x1p-127,
                                     noise * 0x1p120,
                                     at::full({rows, columns}, 0.1, at::kDouble),
                                     at::eye(rows, columns, at::kDouble)};
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    SCOPED_TRACE(i);
    expect_as_by_chain(matrices[i].to(at::kBFloat16));
  }
}

TEST(GramSingularValues, of_columns_of_zeros_are_zeros) {
  Tensor w = gaussian(500, 70, 24).to(at::kBFloat16);
  const std::vector<std::int64_t> kept{1, 2, 5, 33, 64, 68};
  Tensor few = at::zeros_like(w);
  for (const std::int64_t j : kept) few.select(1, j).copy_(w.select(1, j));
  const SingularValues expected = by_gram(w.index_select(1, at::tensor(kept, at::kLong))), found = by_gram(few);
  ASSERT_EQ(found.values.size(), 70u);
  EXPECT_TRUE(std::equal(expected.values.begin(), expected.values.end(), found.values.begin()));
  EXPECT_TRUE(std::all_of(found.values.begin() + 6, found.values.end(), [](double x) { return x == 0; }));
  EXPECT_EQ(by_gram(at::zeros({30, 4}, at::kHalf)).values, std::vector<double>(4, 0.0));
  EXPECT_EQ(by_gram(at::zeros({30, 4}, at::kHalf)).error_bound, 0.0);
  EXPECT_TRUE(by_gram(at::zeros({0, 4}, at::kHalf)).values.empty());
  EXPECT_TRUE(by_gram(at::zeros({4, 0}, at::kHalf)).values.empty());
}

TEST(GramSingularValues, of_fewer_rows_than_columns) { expect_as_by_chain(gaussian(7, 30, 25).to(at::kBFloat16)); }

TEST(GramSingularValues, of_parts_are_those_of_the_whole) {
  const Tensor w = gaussian(9000, 150, 26).to(at::kBFloat16);
  const SingularValues whole = by_gram(w);
  ExactGram together(150);
  std::int64_t first = 0;
  for (const std::int64_t end : {100, 4500, 9000}) {
    const GramOfRows part = gram_matrix(w.narrow(0, first, end - first));
    together.add_sums(part.high, part.low, part.facts);
    first = end;
  }
  const SingularValues found = singular_values_of_gram(together.take(), 150);
  for (std::size_t i = 0; i < 150; ++i)
    EXPECT_NEAR(whole.values[i], found.values[i], whole.error_bound + found.error_bound);
  EXPECT_LT(found.error_bound, 2 * whole.error_bound);
}

TEST(GramSingularValues, have_the_same_bits_for_any_number_of_threads) {
  for (const Tensor& w : {gaussian(2000, 600, 27), conditioned_matrix(1024, 270, 0x1p-30).entries}) {
    const GramOfRows gram = gram_matrix(w.to(at::kBFloat16));
    set_compute_threads(1);
    const SingularValues one = singular_values_of_gram(gram, w.size(1));
    for (const int num_threads : {2, 3, 4}) {
      set_compute_threads(num_threads);
      const SingularValues several = singular_values_of_gram(gram, w.size(1));
      EXPECT_EQ(one.values, several.values) << num_threads;
      EXPECT_EQ(one.error_bound, several.error_bound) << num_threads;
    }
    set_compute_threads(1);
  }
}

/// Frobenius norm of R^T R - G.
double residual(const Tensor& r, const Tensor& w) {
  const Tensor exact = w.to(at::kDouble);
  return at::linalg_norm(r.t().mm(r) - exact.t().mm(exact)).item<double>();
}

TEST(GramSingularValues, come_of_a_triangle_of_the_gram_matrix) {
  const Tensor w = gaussian(2000, 530, 28).to(at::kBFloat16);
  const GramOfRows gram = gram_matrix(w);
  const ScaledGram scaled(gram, 530);
  const Tensor in_scale = w.to(at::kDouble).mul(std::ldexp(1.0, -scaled.exponent()));
  const double rounding = 1000 * kUnitRoundoff * scaled.trace();
  for (const VectorKind kind : vector_kinds()) {
    SCOPED_TRACE(name(kind));
    const GramTriangle triangle = factorize_in_double_double(scaled, double_double_kernel(kind));
    EXPECT_LE(residual(triangle.r, in_scale), rounding);
    EXPECT_LE(triangle.squared_error, 1e-22 * scaled.trace());
    EXPECT_TRUE(at::equal(triangle.r, triangle.r.triu()));
  }
}

TEST(GramSingularValues, by_double_double_are_exact_to_float64_for_each_kind_of_vectors) {
  // In float64 a condition number of 2^31 would leave nothing of the small values.
  const PairedMatrix known = conditioned_matrix(256, 100, 0x1p-30);
  const GramOfRows gram = gram_matrix(known.entries.to(at::kBFloat16));
  const ScaledGram scaled(gram, 200);
  for (const VectorKind kind : vector_kinds()) {
    SCOPED_TRACE(name(kind));
    const GramTriangle triangle = factorize_in_double_double(scaled, double_double_kernel(kind));
    const Tensor values = at::linalg_svdvals(triangle.r).mul(std::ldexp(1.0, scaled.exponent()));
    for (std::size_t i = 0; i < 200; ++i)
      EXPECT_NEAR(known.sigma[i], values.const_data_ptr<double>()[i], 64 * kUnitRoundoff * known.sigma.front()) << i;
  }
}

TEST(GramSingularValues, take_the_memory_that_is_planned) {
  const std::int64_t n = 400, of_gram = 8 * n * (n + 1);
  const GramOfRows gram = gram_matrix(gaussian(1500, n, 29).to(at::kBFloat16));
  const std::int64_t peak = peak_tensor_bytes([&] { singular_values_of_gram(gram, n); });
  EXPECT_LE(peak, gram_singular_values_bytes(n));
  EXPECT_GE(static_cast<double>(peak), 0.9 * static_cast<double>(gram_singular_values_bytes(n) - of_gram));
}

/// Numbers with all their 53 bits.
std::vector<double> full_numbers(std::size_t count, std::uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> result(count);
  for (double& x : result) x = std::ldexp(static_cast<double>(random() >> 11 | 1), -52) - 1;
  return result;
}

TEST(DoubleDouble, products_of_panels_are_right_to_twice_the_digits) {
  const std::int64_t inner = 19, num_columns = 7;  // 4 columns at once, and 3 alone
  const auto size = [](std::int64_t columns) { return static_cast<std::size_t>(columns * kPanelRows); };
  const auto low_parts = [](std::vector<double> numbers) {
    for (double& x : numbers) x *= kUnitRoundoff;
    return numbers;
  };
  std::vector<double> a = full_numbers(size(inner), 1), b = full_numbers(size(inner), 2);
  std::vector<double> a_low = low_parts(full_numbers(size(inner), 3)), b_low = low_parts(full_numbers(size(inner), 4));
  for (std::size_t i = 0; i < a.size(); ++i) {  // no low part is more than half of its number's last bit
    a_low[i] *= std::abs(a[i]) / 2;
    b_low[i] *= std::abs(b[i]) / 2;
  }
  const std::vector<double> c = full_numbers(size(num_columns), 5);
  const auto at = [](std::int64_t row, std::int64_t column) {
    return static_cast<std::size_t>(column * kPanelRows + row);
  };
  for (const VectorKind kind : vector_kinds()) {
    SCOPED_TRACE(name(kind));
    std::vector<double> high = c, low(c.size());
    double_double_kernel(kind).subtract_product({a.data(), a_low.data()}, {b.data(), b_low.data()}, inner,
                                                {high.data(), low.data()}, num_columns);
    for (std::int64_t j = 0; j < num_columns; ++j)
      for (std::int64_t i = 0; i < kPanelRows; ++i) {
        ExactSum<1> error;
        const auto subtract_product = [&](double x, double y) {
          error.add(-x * y);
          error.add(-std::fma(x, y, -(x * y)));
        };
        error.add(c[at(i, j)]);
        for (std::int64_t k = 0; k < inner; ++k) {
          subtract_product(a[at(i, k)], b[at(j, k)]);
          subtract_product(a[at(i, k)], b_low[at(j, k)]);
          subtract_product(a_low[at(i, k)], b[at(j, k)]);
        }
        error.add(-high[at(i, j)]);
        error.add(-low[at(i, j)]);
        // 16 u^2 (|a| + |b|) and 8 u^2 |b| a step, of numbers up to 1 and sums up to 20; what is left out is u^2.
        EXPECT_LE(std::abs(error.round()), (16 * 21 + 8 + 1) * inner * kUnitRoundoff * kUnitRoundoff) << i << ", " << j;
      }
  }
}

TEST(DoubleDouble, added_scaled_numbers_lose_nothing) {
  const std::int64_t count = 37;  // no multiple of any vector
  for (const VectorKind kind : vector_kinds()) {
    SCOPED_TRACE(name(kind));
    std::vector<double> high(37), low(37), factors(37);
    for (std::size_t i = 0; i < 37; ++i) factors[i] = 1 + static_cast<double>(i) / 64;
    const auto add = double_double_kernel(kind).add_scaled;
    for (const double scale : {0x1p60, 1.0, 0x1p-20, -0x1p60, -1.0})
      add(scale, factors.data(), count, high.data(), low.data());
    for (std::size_t i = 0; i < 37; ++i) EXPECT_EQ(high[i] + low[i], factors[i] * 0x1p-20) << i;
  }
}

}  // namespace
}  // namespace spectrace
