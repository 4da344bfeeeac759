#pragma once

#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// Ways to the singular values of a dense float64 matrix; each is backward stable, so one error bound serves all.
enum class SvdRoute {
  two_stage,       ///< to a band, to a bidiagonal matrix, then dqds: nearly all of it matrix products
  direct,          ///< LAPACK dgesdd without vectors: bidiagonalization, then dqds
  transposed,      ///< the same of the transpose: other roundings, where the first does not converge
  jordan_wielandt  ///< the positive eigenvalues of [0 A; A^T 0] by dsyevd: another algorithm, four times the memory
};

/// Singular values of a, descending, >= 0. Empty if LAPACK does not converge.
/// @pre a is [m, n] float64, finite, its entries far from overflow and underflow.
std::vector<double> dense_singular_values(const Tensor& a, SvdRoute route);

/// Columns of the widest band that two_stage goes through: its reflectors are as long.
inline constexpr std::int64_t kWidestBand = 64;

/// What two_stage has in memory at once, beside the matrix itself, bytes. @pre num_rows >= num_columns.
std::int64_t two_stage_bytes(std::int64_t num_rows, std::int64_t num_columns);

struct CheckedSingularValues {
  std::vector<double> values;  // descending, >= 0
  double norm_drift = 0.0;     ///< |2-norm of the values - Frobenius norm|: what roundings of one sign add up to
};

/// Takes the routes in their order until one converges to values whose 2-norm is the given Frobenius norm up to
/// `tolerance` (a wrong answer without an error code is known of vendor libraries). @throws NumericalError if none
/// does.
CheckedSingularValues checked_singular_values(const Tensor& a, double frobenius_norm, double tolerance);

}  // namespace spectrace
