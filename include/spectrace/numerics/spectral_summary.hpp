#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// What section 1 of docs/quantities.md derives from the singular values and entries of one matrix.
struct SpectralSummary {
  double spectral_norm = 0;     ///< sigma_1
  double frobenius_norm = 0;    ///< from the entries
  double effective_rank = 0;    ///< exp(-sum p ln p), p = sigma / sum sigma (Roy & Vetterli 2007)
  double stable_rank = 0;       ///< ||W||_F^2 / sigma_1^2
  double condition_number = 0;  ///< sigma_1 / sigma_min; inf if sigma_min = 0
  double numerical_rank = 0;    ///< number of sigma > sigma_1 * max(m, n) * 2^-23
};

struct EntryMoments {
  double frobenius_norm = 0;  ///< sqrt(sum w_ij^2)
  double mean = 0;
  double std = 0;  ///< unbiased; NaN for fewer than two entries
};

/// The same of a matrix that comes in blocks of rows; how they are cut has no effect on the bits. Memory: 32 bytes a
/// row.
class EntryMomentsOfRows {
 public:
  /// Entries count times 2^exponent until finish: where squares would overflow or vanish.
  explicit EntryMomentsOfRows(int exponent = 0) : exponent_(exponent) {}
  /// @pre rows is [any, columns] of any real type, as many columns as before.
  void add_rows(const Tensor& rows);
  /// As entry_moments.
  EntryMoments finish() const;

 private:
  int exponent_;
  std::int64_t num_columns_ = 0;
  std::vector<double> means_, residuals_, squares_, deviations_;  // of each row
};

/// Sums in float64, pairwise over rows. @pre w is [m, n] of any real type. Entries that are not finite give NaN.
/// @throws NumericalError if the norm of finite entries is no float64 number.
EntryMoments entry_moments(const Tensor& w);

/// @pre singular_values descending. An all-zero matrix has effective and stable rank NaN, numerical rank 0
/// and condition number inf.
/// An empty one (as-published slices past the end) has norms 0 and the rest NaN.
SpectralSummary summarize_spectrum(std::span<const double> singular_values, double frobenius_norm,
                                   std::int64_t num_rows, std::int64_t num_columns);

/// Euclidean norm of every row, float64; summed where w lies. inf where it is beyond the range, or an entry is
/// infinite.
/// @pre w is [m, n].
std::vector<double> row_norms(const Tensor& w);

}  // namespace spectrace
