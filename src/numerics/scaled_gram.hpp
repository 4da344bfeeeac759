#pragma once

#include <cstdint>
#include <vector>

#include "blas.hpp"
#include "spectrace/numerics/exact_gram.hpp"

namespace spectrace {

/// A Gram matrix without its rows and columns of zeros, each column of W divided by a power of two: the diagonal is in
/// [1/4, 1). What errors are relative to is then known, and columns of any size are factorized alike.
class ScaledGram {
 public:
  /// @pre gram stays.
  ScaledGram(const GramOfRows& gram, std::int64_t num_columns);

  std::int64_t size() const { return static_cast<std::int64_t>(columns_.size()); }
  /// W's column j is 2^exponent() scale(j) times the scaled one; the largest scale is 1.
  int exponent() const { return exponent_; }
  double scale(std::int64_t j) const { return scales_[static_cast<std::size_t>(j)]; }
  /// Of W^T W, times 4^-exponent(). Rounded.
  double trace() const { return trace_; }
  /// Entries from there on, of both halves.
  void read(std::int64_t first_row, std::int64_t first_column, Block high, Block low) const;

 private:
  void read_array(const std::vector<double>& from, std::int64_t first_row, std::int64_t first_column, Block to) const;

  const GramOfRows& gram_;
  std::vector<std::int64_t> columns_;  // [size] of the Gram matrix
  std::vector<double> scales_;         // [size]
  std::vector<double> factors_;        // [size]: what takes a column to its scaled one
  int exponent_ = 0;
  double trace_ = 0;
};

}  // namespace spectrace
