#include "scaled_gram.hpp"

#include <algorithm>
#include <cmath>

#include "pairwise_sum.hpp"

namespace spectrace {

ScaledGram::ScaledGram(const GramOfRows& gram, std::int64_t num_columns) : gram_(gram) {
  std::vector<int> exponents;  // norm in [1/2, 1) times 2^exponent
  for (std::int64_t j = 0; j < num_columns; ++j) {
    const double square = gram.high[static_cast<std::size_t>(j * (j + 1) / 2 + j)];
    if (square == 0) continue;
    int exponent = 0;
    (void)std::frexp(square, &exponent);
    columns_.push_back(j);
    exponents.push_back((exponent + (exponent & 1)) / 2);
  }
  if (columns_.empty()) return;
  exponent_ = *std::max_element(exponents.begin(), exponents.end());
  for (const int exponent : exponents) {
    scales_.push_back(std::ldexp(1.0, exponent - exponent_));
    factors_.push_back(std::ldexp(1.0, -exponent));
  }
  trace_ = pairwise_sum(0, size(), [&](std::int64_t j) {
    const std::int64_t column = columns_[static_cast<std::size_t>(j)];
    return std::ldexp(gram.high[static_cast<std::size_t>(column * (column + 1) / 2 + column)], -2 * exponent_);
  });
}

void ScaledGram::read_array(const std::vector<double>& from, std::int64_t first_row, std::int64_t first_column,
                            Block to) const {
  for (std::int64_t j = 0; j < to.columns; ++j) {
    const auto column = static_cast<std::size_t>(first_column + j);
    for (std::int64_t i = 0; i < to.rows; ++i) {
      const auto row = static_cast<std::size_t>(first_row + i);
      const std::int64_t upper = std::min(columns_[row], columns_[column]);
      const std::int64_t lower = std::max(columns_[row], columns_[column]);
      // One factor after the other: their product may be out of range where the result is not.
      to(i, j) = from[static_cast<std::size_t>(lower * (lower + 1) / 2 + upper)] * factors_[row] * factors_[column];
    }
  }
}

void ScaledGram::read(std::int64_t first_row, std::int64_t first_column, Block high, Block low) const {
  read_array(gram_.high, first_row, first_column, high);
  read_array(gram_.low, first_row, first_column, low);
}

}  // namespace spectrace
