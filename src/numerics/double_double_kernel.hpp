#pragma once

#include <cstdint>

// The inner loops of double-double arithmetic, compiled once for each kind of vector instructions
// (double_double_*.cpp), without contraction of a b + c, which would take the errors for zero. Nothing of the standard
// library but types: see bulge_chasing_kernel.hpp.

namespace spectrace {

/// Rows of a panel of double-double numbers: column-major, two arrays of [kPanelRows, any number of columns].
inline constexpr std::int64_t kPanelRows = 64;

struct Panel64 {
  double* high;
  double* low;
};

struct DoubleDoubleKernel {
  /// c -= a b^T. @pre a is [64, inner]; b has rows 0 to num_columns, its first one where b points; c [64, num_columns].
  void (*subtract_product)(Panel64 a, Panel64 b, std::int64_t inner, Panel64 c, std::int64_t num_columns);
  /// a = L L^T for the symmetric [64, 64] of which the lower triangle is read; L takes its place, zeros above the
  /// diagonal. inverses: [64], of L's diagonal. Returns false where a pivot is not positive.
  bool (*factorize)(Panel64 a, Panel64 inverses);
  /// b = b L^-T. @pre b is [64, 64].
  void (*solve)(Panel64 lower, Panel64 inverses, Panel64 b);
  /// (high, low)[i] += scale factors[i] by TwoSum; low is not carried. @pre every product is a float64 number.
  void (*add_scaled)(double scale, const double* factors, std::int64_t count, double* high, double* low);
};

extern const DoubleDoubleKernel kDoubleDoubleBaseline, kDoubleDoubleAvx2, kDoubleDoubleAvx512;

}  // namespace spectrace
