#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Of N vectors of D numbers, the rows of X: singular values of X, and of X less its mean row. Squared and divided by
/// N - 1, these are the eigenvalues of the covariance.
struct CloudSpectra {
  std::int64_t num_vectors = 0;
  double frobenius_norm = 0;  ///< of X
  SingularValues of_vectors;  // [min(N, D)]
  SingularValues centered;    // [min(N - 1, D)]
};

/// Takes both spectra (docs/quantities.md, section 5) of vectors that come one after the other, in one pass; how they
/// are cut into calls has no effect on the bits. Their order has. Memory: point_cloud_bytes. @throws NumericalError,
/// from add or finish, if an entry is not finite or what TallSingularValues::finish throws for.
class PointCloud {
 public:
  /// @param most_vectors that will come.
  PointCloud(std::int64_t num_columns, std::int64_t most_vectors);
  /// @pre vectors is [any, num_columns] float64 on the host.
  void add(const Tensor& vectors);
  /// Call once.
  CloudSpectra finish();

 private:
  Tensor turned(const Tensor& vectors);
  Tensor mean_row() const;

  std::int64_t num_columns_, most_vectors_;
  std::int64_t num_vectors_ = 0;
  std::vector<double> sum_high_, sum_low_;        // of the vectors so far, by column: double-double
  Tensor held_;                                   // all turned rows, where they are few
  std::unique_ptr<TallSingularValues> triangle_;  // of them, where they are many
};

/// The most that a cloud has in memory at once, bytes, and its floating-point operations.
std::int64_t point_cloud_bytes(std::int64_t num_columns, std::int64_t most_vectors);
double point_cloud_flops(std::int64_t num_columns, std::int64_t num_vectors);

/// How fast eigenvalues fall: lambda_i ~ i^-exponent.
struct EigenvalueDecay {
  double exponent = 0, r_squared = 0;
};

/// Least squares of ln lambda_i over ln i for the ranks i = 12 ... 100, weighted by 1/i, as Stringer et al. 2019
/// (doi:10.1038/s41586-019-1346-5) and alpha-ReQ (Agrawal et al. 2022) take it; r_squared of these ranks, unweighted.
/// NaN if fewer than ten of them have an eigenvalue. @pre eigenvalues descend, those that are there are positive.
EigenvalueDecay eigenvalue_decay(std::span<const double> eigenvalues);

}  // namespace spectrace
