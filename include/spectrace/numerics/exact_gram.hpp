#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spectrace/numerics/singular_values.hpp"
#include "spectrace/numerics/tensor.hpp"

namespace spectrace {

/// What the bound of singular values needs to know of a Gram matrix.
struct GramFacts {
  std::int64_t num_rows = 0;       // that it came of
  std::int64_t num_additions = 0;  // of double-double numbers to each entry, one after the other
};

/// W^T W of a part of a tall matrix' rows: its upper triangle in double-double numbers high + low, |low| <= u |high|.
struct GramOfRows {
  std::vector<double> high, low;  // [n (n + 1) / 2]: columns, each down to its diagonal
  GramFacts facts;
};

/// W^T W of a tall matrix of bfloat16 or float16 that comes in blocks of rows: half the flops of a QR factorization,
/// and, unlike a Gram matrix in float64, one whose small eigenvalues are right. Entries are split at multiples of
/// powers of two such that float64 matrix products of what lies above have no rounding (Ozaki et al. 2012); few entries
/// have anything below, and of those every product of two numbers is exact. Sums are double-double: each entry is off
/// by less than some 1e-29 of its columns' norms (docs/numerics.md).
class ExactGram {
 public:
  explicit ExactGram(std::int64_t num_columns);
  /// How rows are cut into blocks has no effect on any bit.
  /// @throws NumericalError if an entry is not finite, or the BLAS rounds a product that needs no rounding.
  /// @pre block is [any, num_columns], bfloat16 or float16, all blocks of one type.
  void add_rows(const Tensor& block);
  /// Adds what another one has of other rows. The order of parts decides the last bits of `low`.
  /// @pre the spans are as in GramOfRows.
  void add_sums(std::span<const double> high, std::span<const double> low, const GramFacts& facts);
  /// Call once. @throws NumericalError as add_rows.
  GramOfRows take();

 private:
  void process_buffer();
  void process(const std::uint16_t* rows, std::int64_t count);
  void reserve_sums();

  std::int64_t num_columns_;
  GramFacts facts_;
  at::ScalarType type_ = at::kBFloat16;
  Tensor buffer_;  // [superblock, num_columns] int16: the bits of rows that are not in the sums yet
  std::int64_t num_buffered_ = 0;
  Tensor integers_;    // [capacity, num_columns] float64, column-major
  Tensor high_, low_;  // [num_columns, num_columns] float64, column-major: Z with W^T W = Z + Z^T
};

/// Singular values of the matrix that the Gram matrix came of: those of its Cholesky factor, which is computed in
/// double-double numbers, so that its own error counts for no more than float64's: whatever the rank.
/// @pre the Gram matrix is one of ExactGram's. @throws NumericalError if no route to the factor's values converges.
SingularValues singular_values_of_gram(GramOfRows gram, std::int64_t num_columns);

/// Floating-point operations of the rows' W^T W, m n^2, and of the singular values from it: 8/3 n^3, and 2 n^3 that
/// would take as long as the n^3 / 3 double-double ones of the Cholesky factorization.
double gram_flops(std::int64_t num_rows, std::int64_t num_columns);
double gram_singular_values_flops(std::int64_t num_columns);

/// The most that an ExactGram has in memory for so many rows, what it gives included, bytes.
std::int64_t gram_bytes(std::int64_t num_rows, std::int64_t num_columns);
/// The same where parts are put together by add_sums and their singular values taken, beside the part that is added.
std::int64_t gram_join_bytes(std::int64_t num_columns);
/// What singular_values_of_gram has in memory, the Gram matrix included.
std::int64_t gram_singular_values_bytes(std::int64_t num_columns);

}  // namespace spectrace
