#include "../../src/numerics/blas.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "support/unit_roundoff.hpp"

namespace spectrace {
namespace {

/// Column-major, with rows that nobody may touch below those of each column.
struct Padded {
  Padded(std::int64_t rows, std::int64_t columns, double phase)
      : numbers(static_cast<std::size_t>((rows + kBelow) * std::max<std::int64_t>(columns, 1))),
        block{numbers.data(), rows, columns, rows + kBelow} {
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = std::sin(0.7390851 * static_cast<double>(i) + phase);
  }
  Padded(const Padded& other) : numbers(other.numbers), block(other.block) { block.data = numbers.data(); }
  static constexpr std::int64_t kBelow = 3;
  std::vector<double> numbers;
  Block block;
};

std::int64_t rows_of(Form form, std::int64_t rows, std::int64_t columns) {
  return form == Form::as_is ? rows : columns;
}
double entry(Form form, Block block, std::int64_t i, std::int64_t k) {
  return form == Form::as_is ? block(i, k) : block(k, i);
}

class Products : public testing::TestWithParam<ProductWay> {
 protected:
  void expect_product(Form form_a, Form form_b, std::int64_t m, std::int64_t n, std::int64_t inner, double keep) {
    SCOPED_TRACE(testing::Message() << m << " x " << inner << " x " << n << ", forms " << static_cast<int>(form_a)
                                    << static_cast<int>(form_b) << ", keep " << keep);
    const Padded a(rows_of(form_a, m, inner), rows_of(form_a, inner, m), 0.1);
    const Padded b(rows_of(form_b, inner, n), rows_of(form_b, n, inner), 0.2);
    Padded c(m, n, 0.3);
    if (keep == 0)
      for (std::int64_t j = 0; j < n; ++j) std::fill_n(c.block.column(j), m, std::nan(""));
    const Padded before = c;
    const double scale = -1.5;
    multiply(form_a, a.block, form_b, b.block, c.block, scale, keep, GetParam());
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t i = 0; i < m; ++i) {
        long double sum = 0, sizes = 0;
        for (std::int64_t k = 0; k < inner; ++k) {
          const long double term =
              static_cast<long double>(entry(form_a, a.block, i, k)) * entry(form_b, b.block, k, j);
          sum += term;
          sizes += std::abs(term);
        }
        const double kept = keep == 0 ? 0 : keep * before.numbers[static_cast<std::size_t>(i + j * c.block.stride)];
        const auto expected = static_cast<double>(scale * sum + kept);
        const double tolerance =
            static_cast<double>(inner + 4) * kUnitRoundoff * (static_cast<double>(1.5L * sizes) + std::abs(kept));
        ASSERT_NEAR(expected, c.block(i, j), tolerance) << i << " " << j;
      }
      for (std::int64_t i = m; i < c.block.stride; ++i) {
        const auto place = static_cast<std::size_t>(i + j * c.block.stride);
        ASSERT_EQ(before.numbers[place], c.numbers[place]) << "below column " << j;
      }
    }
  }
};

TEST_P(Products, are_those_of_the_definition) {
  using Case = std::array<std::int64_t, 3>;
  for (const auto& [m, n, inner] : std::vector<Case>{{1, 1, 1},
                                                     {24, 8, 16},
                                                     {23, 7, 5},
                                                     {25, 9, 17},
                                                     {48, 64, 8},
                                                     {100, 3, 300},
                                                     {241, 17, 257},
                                                     {250, 530, 12},
                                                     {3, 1100, 9},
                                                     {500, 8, 513}})
    for (const Form form_a : {Form::as_is, Form::transposed})
      for (const Form form_b : {Form::as_is, Form::transposed})
        for (const double keep : {0.0, 1.0, 0.25}) expect_product(form_a, form_b, m, n, inner, keep);
}

TEST_P(Products, over_nothing_are_what_was_kept) {
  for (const double keep : {0.0, 0.5}) {
    Padded c(5, 4, 0.3);
    const Padded before = c;
    multiply(Form::as_is, {nullptr, 5, 0, 5}, Form::as_is, {nullptr, 0, 4, 1}, c.block, 1.0, keep, GetParam());
    for (std::int64_t j = 0; j < 4; ++j)
      for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(keep * before.block.data[i + j * 8], c.block(i, j));
  }
}

// What a product is cut into follows from the number of tasks elsewhere.
TEST_P(Products, have_the_same_bits_however_they_are_cut) {
  if (GetParam() == ProductWay::blas) GTEST_SKIP() << "not promised of the BLAS: whoever cuts has fixed tiles";
  const std::int64_t m = 301, n = 57, inner = 600;
  const Padded a(m, inner, 0.1), b(inner, n, 0.2);
  Padded whole(m, n, 0.3), parts = whole;
  multiply(Form::as_is, a.block, Form::as_is, b.block, whole.block, 1.0, 1.0, GetParam());
  for (std::int64_t row = 0; row < m; row += 77)
    for (std::int64_t column = 0; column < n; column += 13) {
      const std::int64_t rows = std::min<std::int64_t>(77, m - row), columns = std::min<std::int64_t>(13, n - column);
      multiply(Form::as_is, a.block.part(row, 0, rows, inner), Form::as_is, b.block.part(0, column, inner, columns),
               parts.block.part(row, column, rows, columns), 1.0, 1.0, GetParam());
    }
  EXPECT_EQ(whole.numbers, parts.numbers);
}

INSTANTIATE_TEST_SUITE_P(Ways, Products, testing::ValuesIn(product_ways()), [](const auto& way) {
  return std::string(way.param == ProductWay::blas ? "blas" : "kernel");
});

}  // namespace
}  // namespace spectrace
