#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "spectrace/numerics/tensor.hpp"
#include "symmetric_kernels.hpp"
#include "vector_kinds.hpp"

namespace spectrace {

const SymmetricKernels& symmetric_kernels(VectorKind kind);
/// Of the best kind that this processor has.
const SymmetricKernels& symmetric_kernels();

/// A symmetric matrix of size n as its tridiagonalization reads it: strips of four columns one after the other, each
/// from its block of the diagonal on, down to a number of rows that is a multiple of 8 (the rest is zero); of a strip
/// blocks of 4 or 8 rows (`block_rows`), by columns. What lies above the diagonal is there in the diagonal's blocks.
class SymmetricStrips {
 public:
  static constexpr std::int64_t kColumns = 4;

  /// Zero.
  explicit SymmetricStrips(std::int64_t n, const SymmetricKernels& kernels = symmetric_kernels());

  std::int64_t size() const { return n_; }
  std::int64_t padded_rows() const { return rows_; }
  std::int64_t block_rows() const { return block_rows_; }
  std::int64_t row_step() const { return 1; }
  std::int64_t column_step() const { return block_rows_; }
  /// Of the blocks that are there whole.
  std::int64_t rows_of_diagonal() const { return block_rows_; }
  /// The first row that strip `strip` has.
  std::int64_t first_row(std::int64_t strip) const { return strip * kColumns / block_rows_ * block_rows_; }
  /// Entry (first_row, 4 strip); (first_row + i, 4 strip + j) is at i + j block_rows, for i < block_rows; the next
  /// block follows 4 block_rows later.
  double* strip(std::int64_t strip) { return entries().data() + strips_[static_cast<std::size_t>(strip)]; }
  /// For tests and single entries. @pre i >= j, or both in one block of the diagonal.
  double& at(std::int64_t i, std::int64_t j);

  /// All entries, padding too, in no order.
  std::span<double> entries() { return {entries_.mutable_data_ptr<double>(), num_entries_}; }

 private:
  std::int64_t n_, rows_, block_rows_;
  std::size_t num_entries_;
  std::vector<std::size_t> strips_;
  Tensor entries_;
};

/// The same as its reduction in two stages reads it: strips of 48 columns one after the other, each from its block of
/// the diagonal on, by rows. That block is there whole. Rows are a multiple of 12; what is added to both is zero.
class SymmetricTiles {
 public:
  static constexpr std::int64_t kColumns = kSymmetricTileColumns;

  /// Zero.
  explicit SymmetricTiles(std::int64_t n);

  std::int64_t size() const { return n_; }
  std::int64_t padded_rows() const { return rows_; }
  /// As those of SymmetricStrips have them: so many rows are written together.
  std::int64_t block_rows() const { return 8; }
  std::int64_t row_step() const { return kColumns; }
  std::int64_t column_step() const { return 1; }
  std::int64_t rows_of_diagonal() const { return kColumns; }
  std::int64_t first_row(std::int64_t strip) const { return strip * kColumns; }
  /// Entry (first_row, 48 strip); (first_row + i, 48 strip + j) is at 48 i + j.
  double* strip(std::int64_t strip) {
    return entries_.mutable_data_ptr<double>() + kColumns * (strip * rows_ - kColumns * (strip * (strip - 1) / 2));
  }
  /// For tests and single entries. @pre i >= j, or both in one block of the diagonal.
  double& at(std::int64_t i, std::int64_t j);

  /// All entries, padding too, in no order.
  std::span<double> entries();

 private:
  std::int64_t n_, rows_;
  Tensor entries_;
};

/// A symmetric tridiagonal matrix: [n], [n] of which the last entry is 0.
struct SymmetricTridiagonal {
  std::vector<double> diagonal, beside;
};

/// The one with the eigenvalues of `matrix`, by Householder reflectors. On the calling thread alone. @pre entries are
/// finite.
SymmetricTridiagonal tridiagonalize(SymmetricStrips matrix, const SymmetricKernels& kernels = symmetric_kernels());
/// The same in two stages, dense to band to tridiagonal.
SymmetricTridiagonal tridiagonalize(SymmetricTiles matrix, const SymmetricKernels& kernels = symmetric_kernels());

/// From this size on two stages are the faster way: the matrix comes from the third-level cache or from memory once for
/// 16 of its columns instead of once for each. Measured were 800 on an Emerald Rapids and 1400 on a Zen 4 with 16
/// MB of that cache a core.
inline constexpr std::int64_t kTwoStageSize = 1024;
/// Bytes that the faster way takes, the matrix among them.
std::int64_t tridiagonalization_bytes(std::int64_t n);

/// Ascending eigenvalues of matrices of one size; none of a matrix whose values did not converge (none is known). Their
/// number has no effect on the bits of one: as many as there are lanes cost hardly more than one.
/// @pre at most values_together() of them.
std::vector<std::optional<std::vector<double>>> eigenvalues(std::span<const SymmetricTridiagonal* const> matrices,
                                                            const SymmetricKernels& kernels = symmetric_kernels());
/// The same by LAPACK, for a matrix whose values did not converge.
std::vector<double> eigenvalues_by_lapack(const SymmetricTridiagonal& matrix);
/// Of one matrix, on the calling thread alone; by LAPACK where they do not converge. @pre matrix is [n, n] float64,
/// contiguous, on the host, finite; its lower half counts. n > 0.
std::vector<double> symmetric_eigenvalues(const Tensor& matrix);
inline std::int64_t values_together() { return symmetric_kernels().most_together; }

}  // namespace spectrace
