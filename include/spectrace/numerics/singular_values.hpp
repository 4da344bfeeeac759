#pragma once

#include <cstdint>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// All singular values of one matrix and how far each can be from the exact ones of the stored entries.
struct SingularValues {
  std::vector<double> values;  // [min(m, n)], descending, >= 0
  double error_bound = 0.0;    ///< absolute, holds for every value: |computed - exact| <= error_bound
};

/// Singular values in float64 of a matrix of any real type. The matrix may be any strided view (transposed too).
/// Throws std::runtime_error-derived NumericalError if LAPACK does not converge on any route.
/// @pre w is [m, n], finite. m or n may be 0: no values.
SingularValues singular_values(const Tensor& w);

/// Singular values of a tall matrix that comes in blocks of rows and is never held whole: an R factor is updated by QR
/// (TSQR; Demmel, Grigori, Hoemmen, Langou 2012, doi:10.1137/080731992), then its singular values are taken.
/// Backward stable, unlike a Gram matrix. Memory: O(num_columns^2 + block).
class TallSingularValues {
 public:
  explicit TallSingularValues(std::int64_t num_columns);
  /// @pre block is [any, num_columns], finite. The bits depend on how rows are cut into blocks: callers fix that.
  void add_rows(const Tensor& block);
  SingularValues finish();

 private:
  std::int64_t num_columns_, num_rows_ = 0;
  Tensor r_;        // [<= num_columns, num_columns] float64
  Tensor pending_;  // rows waiting for the next factorization
};

}  // namespace spectrace
