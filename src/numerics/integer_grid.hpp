#pragma once

#include <cstdint>
#include <vector>

#include "blas.hpp"

namespace spectrace {

enum class SixteenBits { bfloat16, float16 };

/// Rows of 16-bit numbers as they are stored, one after the other.
struct Rows16 {
  const std::uint16_t* data;
  std::int64_t count, num_columns;
  SixteenBits type;
};

/// Whether none of the numbers is NaN or infinite.
bool are_finite(const std::uint16_t* data, std::int64_t count, SixteenBits type);

/// What an entry has left beside its multiples of units.
struct Remainder {
  std::int32_t row, column;
  double value;
};

/// Of a strip's entries: where more have one, the products of a second grid cost less.
inline constexpr double kMostRemainders = 0.05;

/// Columns of a strip: what one task rounds, and what has one check sum a row.
inline constexpr std::int64_t kStripColumns = 64;

/// Rows of 16-bit numbers w as multiples of powers of two: w = h_1 u_1 [+ h_2 u_2] + l exactly, with units u for each
/// column. They are chosen by the norms of the columns such that in a product of two columns of integers h every
/// partial sum is at most 2^53: a matrix product of them in float64 has no rounding, whatever its order (the error-free
/// transformation of Ozaki, Ogita, Oishi and Rump, Numerical Algorithms 59, 2012, with the Cauchy-Schwarz inequality in
/// place of the entries' sizes). l is zero for all but the smallest entries of a column, as a rule a few in 100000, and
/// these are kept one by one.
class GridRows {
 public:
  /// @pre all entries finite; `memory` holds at least as many rows, and columns as the rows have.
  GridRows(const Rows16& rows, Block memory);

  /// Whether a strip has more than kMostRemainders: then they are not all there, and one grid is not enough.
  bool is_dense() const { return is_dense_; }
  /// Puts what is left on a second grid of its own units. @pre memory has room for twice the rows.
  void add_grid();

  int num_grids() const { return num_grids_; }
  Block integers(int grid) const;  // [rows, columns]
  double unit(int grid, std::int64_t column) const { return grids_[grid].units[static_cast<std::size_t>(column)]; }

  /// Remainders of the columns of one strip, by groups of columns, then by row.
  std::vector<Remainder>& remainders(std::int64_t strip) { return remainders_[static_cast<std::size_t>(strip)]; }
  std::int64_t num_strips() const { return static_cast<std::int64_t>(remainders_.size()); }
  /// w - l / 2 of one row: [columns]. With l these are the factors of what remainders add to W^T W.
  void factors(std::int64_t row, double* result) const;

  /// For every row the integers of some columns times fixed odd weights, modulo 2^64. @pre first is a strip's first.
  void add_check_sums(int grid, std::int64_t first, std::int64_t num_columns, std::vector<std::uint64_t>& sums) const;

 private:
  struct Grid {
    std::vector<double> units, inverses;    // [columns], 0 for columns of zeros
    std::vector<std::uint64_t> check_sums;  // [strips, rows]
  };
  struct Strip {
    std::int64_t first, num_columns;
  };

  Strip strip(std::int64_t index) const;
  double rest(double entry, std::int64_t column, int num_grids) const;
  void choose_units(int grid);
  void round(int grid, std::int64_t strip_index);
  void take_remainders(int grid, std::int64_t strip_index, std::int64_t row, const double* values);

  Rows16 rows_;
  Block memory_;
  Grid grids_[2];
  int num_grids_ = 0;
  bool is_dense_ = false;
  std::vector<std::vector<Remainder>> remainders_;  // [strips]
};

/// Whether a product of integers, [m, n], agrees with its factors' check sums: sums of the product's entries with both
/// weights must be the sum of the products, all modulo 2^64 (Freivalds' check, IFIP 1977). A single wrong entry never
/// passes. So a BLAS that rounds (Strassen's method, emulated float64) is found out.
bool is_exact_product(Block product, std::int64_t first_row, std::int64_t first_column,
                      const std::vector<std::uint64_t>& left, const std::vector<std::uint64_t>& right);
/// @throws NumericalError if it does not.
void require_exact_product(Block product, std::int64_t first_row, std::int64_t first_column,
                           const std::vector<std::uint64_t>& left, const std::vector<std::uint64_t>& right);

}  // namespace spectrace
