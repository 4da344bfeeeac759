#pragma once

#include <cstdint>

#include "spectrace/numerics/numerical_error.hpp"
#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/spectral_summary.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// A tall factor of a product of low rank, and what products need of it, in a scale in which nothing leaves float64.
struct ThinFactor {
  Tensor entries;             // [m, d] float64: times 2^exponent, the largest is in [1, 2); undefined unless kept
  Tensor triangle;            // [min(m, d), d] float64: R of the QR factorization of the entries
  std::int64_t num_rows = 0;  ///< m
  int exponent = 0;           ///< 0 where all entries are zero
  double frobenius_norm = 0;  ///< of the entries
  double norm_bound = 0;      ///< ||entries||_2 is not larger; mostly within a factor of 4 of it
  double relative_error = 0;  ///< ||Delta||_2 / ||entries||_2 of the factor that the triangle is exact for, a bound
};

/// What stays of a factor: products' singular values need its triangle, their eigenvalues its entries too.
enum class FactorParts { triangle, entries_too };

/// @pre a is [m, d] of any real type, any strides. @throws NumericalError if an entry is not finite.
ThinFactor factorize(const Tensor& a, FactorParts parts = FactorParts::entries_too);

/// Of left right^T, [m, n] of rank d at most, by the triangles alone: nothing of its size is formed
/// (docs/quantities.md, section 1).
struct ProductSpectrum {
  SingularValues singular;  ///< the min(m, n, d) largest, and a bound of their errors (docs/numerics.md)
  SpectralSummary summary;  ///< of these; its Frobenius norm is theirs, its condition number says nothing
};
/// @pre both have d columns. @throws NumericalError if no route converges, or the largest value is no float64 number,
/// too large or too small.
ProductSpectrum product_spectrum(const ThinFactor& left, const ThinFactor& right);

/// Of right^T left, [d, d], whose eigenvalues are those of left right^T without m - d zeros (m = n).
struct ProductEigenvalues {
  double positivity = 0;  ///< sum Re lambda / sum |lambda|, from -1 to 1; NaN if all are 0
  double spectral_radius = 0;
  /// Each computed eigenvalue is an exact one of a matrix that differs from right^T left by no more, in the 2-norm.
  double backward_error = 0;
};
/// @pre both are [m, d] and have their entries. @throws NumericalError if LAPACK does not converge, or the radius is
/// too large for float64.
ProductEigenvalues product_eigenvalues(const ThinFactor& left, const ThinFactor& right);

/// Floating-point operations, roughly.
double factorize_flops(std::int64_t m, std::int64_t d);
double product_spectrum_flops(std::int64_t d);
double product_eigenvalues_flops(std::int64_t m, std::int64_t d);
/// Bytes of a factor, and the most that one of the three has in memory beside factors with their entries.
std::int64_t thin_factor_bytes(std::int64_t m, std::int64_t d, FactorParts parts);
std::int64_t low_rank_product_bytes(std::int64_t m, std::int64_t d);

}  // namespace spectrace
